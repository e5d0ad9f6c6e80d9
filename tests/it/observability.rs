//! Latencies, people in the log, the dashboard and the alerts.
