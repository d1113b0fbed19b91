"""Model cards: what they say of the numbers is true of them."""

from __future__ import annotations

from selfsup.uses.model_cards import _as_it_is, _detection_scores


def test_the_shares_of_filled_and_of_replaced_tokens_are_told_apart() -> None:
    # filled are 15 % of a row with its special tokens, so more than these can differ of the others
    scores = {"detection_loss": 0.4, "detection_accuracy": 0.9, "replaced_share": 0.154}
    result = {"heldout": scores, "untrained": scores, "base_rate": scores}
    said = " ".join(_detection_scores(result).split())
    assert (
        "as many as are 15 % of a row with what stands around and between the texts in it" in said
    )
    assert "of the tokens that were asked about, 15.4 % differed from the true ones" in said


def test_names_of_others_are_no_markdown() -> None:
    assert _as_it_is("<script>_x_</script>") == "`<script>_x_</script>`"
    assert _as_it_is("a\n# b\x1b[31m") == r"`a # b\x1b[31m`"
    assert _as_it_is("one ` two `` end`") == "``` one ` two `` end` ```"
