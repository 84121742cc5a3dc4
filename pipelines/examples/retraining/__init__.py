"""A model of flights that is trained on, month by month; see README.md here."""
