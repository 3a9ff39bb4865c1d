"""The endpoints of the API about schedules."""
