"""Feature-based adaptation: functions (source (n, d), target (m, d)) -> scalar that pull two distributions of features together."""
