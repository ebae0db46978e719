//! mixflow-schedules
