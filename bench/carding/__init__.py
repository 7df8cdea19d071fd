"""Grader cards: how right the shipped graders are on other people's labelled data.

`sets` names the data sets, `convert` makes spans of their records and `suites` cases of what their authors expect, `runs` has
them graded, `measures` compares grades with labels, `stats` says how sure the figures are, `report` writes them down. Labels
stay on this side: no span and no policy holds one, and of a case only what the source's authors say a good run does.
"""
