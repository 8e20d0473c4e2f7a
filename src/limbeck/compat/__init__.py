"""Faces of other libraries over this one: their words, translated. Nothing of them leaks into the rest."""
