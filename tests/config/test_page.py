"""The page of every key is the one that the code makes."""

from helpers import ROOT

from demega_jax.config import page


def test_config_page_is_up_to_date():
    assert (ROOT / "configs" / "README.md").read_text() == page.page(), "run `make config-page`"
