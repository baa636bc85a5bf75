"""What a trained network is worth, and what simple methods beside it are."""
