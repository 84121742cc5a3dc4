"""Will a flight out of New York arrive 15 minutes late or more?"""
