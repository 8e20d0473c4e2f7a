"""Small networks to distil into."""
