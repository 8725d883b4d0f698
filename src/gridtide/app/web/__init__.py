"""The live page and its API over a running site."""
