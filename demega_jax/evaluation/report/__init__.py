"""Reports of scores: tables on the terminal, figures for a paper, and one page that ties them together."""
