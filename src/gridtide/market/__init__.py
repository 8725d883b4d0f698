"""Money: tariffs and bills; pure."""
