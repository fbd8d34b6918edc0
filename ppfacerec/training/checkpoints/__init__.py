"""What training goes on from: saved, found, compared, resumed."""
