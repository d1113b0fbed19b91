"""Experiments that answer a question and end in a table and a figure."""
