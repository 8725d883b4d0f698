"""Money: tariffs, bills and wear; pure."""
