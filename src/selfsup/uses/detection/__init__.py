"""Anomaly detection and representation as scikit-learn estimators, and their files."""
