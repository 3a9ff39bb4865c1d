"""What the system schedules do: numbers of each hour, the daily mail, the cleaning."""
