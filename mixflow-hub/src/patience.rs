//! How long to wait for a server, and how often to ask again.

use std::time::{Duration, Instant, SystemTime};

/// Timeouts and retries.
///
/// A request is repeated when the line breaks, when nothing comes for `silence`, and on the statuses 408, 429, 500, 502,
/// 503 and 504: after `first_wait`, twice that, and so on, or what the server asks for in `Retry-After` or `RateLimit` where
/// that is longer. A commit is repeated only where the branch shows that it was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest time until a connection stands.
    pub connect: Duration,
    /// Longest time without a byte; four times that for a server to do something with what it got. Over this time a
    /// transfer must also move 1 KiB a second.
    pub silence: Duration,
    /// How often to ask, at least once. A download that has brought another MiB, and an upload that has brought another
    /// part, start counting anew.
    pub attempts: u32,
    /// Wait before the second attempt.
    pub first_wait: Duration,
    /// Longest wait. A server that asks for more is [busy](crate::Error::Busy).
    pub longest_wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            attempts: 6,
            first_wait: Duration::from_secs(1),
            // The Hub counts anew every 300 s.
            longest_wait: Duration::from_secs(310),
        }
    }
}

impl Patience {
    /// Wait after so many failures, at least one.
    pub(crate) fn wait(&self, failures: u32) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        self.first_wait.saturating_mul(doubled).min(self.longest_wait)
    }
}

/// Bytes a second that a transfer must move.
const SLOWEST: u64 = 1 << 10;

/// Speed of a transfer, since it was last looked at.
pub(crate) struct Pace {
    /// When the speed was last looked at, and at which byte.
    pub(crate) since: Instant,
    pub(crate) mark: u64,
}

impl Pace {
    /// The pace of a transfer that begins at byte `mark`.
    pub(crate) fn new(mark: u64) -> Self {
        Self { since: Instant::now(), mark }
    }

    /// Whether next to nothing has moved for `silence`; `at` is the byte that comes next.
    pub(crate) fn is_too_slow(&mut self, at: u64, silence: Duration) -> bool {
        if self.since.elapsed() < silence {
            return false;
        }
        let slow = at - self.mark < SLOWEST * self.since.elapsed().as_secs();
        *self = Self::new(at);
        slow
    }
}

/// What a `Retry-After` header asks for: seconds, or a date.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// When the Hub counts anew, as its `RateLimit` header says to those who have nothing left: `"api";r=0;t=55`, in whole seconds,
/// of which the last one is not over.
///
/// # Source
/// draft-ietf-httpapi-ratelimit-headers-09, as `huggingface_hub` 2.4.0 reads it (`utils/_http.py`).
pub(crate) fn reset(header: &str) -> Option<Duration> {
    let value = |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<u64>().ok());
    if value("r=")? > 0 { None } else { value("t=").map(|left| Duration::from_secs(left.saturating_add(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let patience = Patience {
            first_wait: Duration::from_secs(3),
            longest_wait: Duration::from_secs(10),
            ..Patience::default()
        };
        let seconds: Vec<u64> = [1, 2, 3, 4, 99].map(|failures| patience.wait(failures).as_secs()).into();
        assert_eq!(seconds, [3, 6, 10, 10, 10]);
    }

    #[test]
    fn servers_ask_in_seconds_or_by_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_460);
        for (header, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(20)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("soon", None),
            ("-3", None),
        ] {
            assert_eq!(retry_after(header, now).map(|wait| wait.as_secs()), expected, "{header}");
        }
    }

    #[test]
    fn a_limit_that_is_reached_says_until_when() {
        for (header, expected) in [
            ("\"api\";r=0;t=55", Some(56)),
            ("\"resolvers\"; r=0; t=7", Some(8)),
            ("\"api\";r=12;t=55", None),
            ("\"api\";t=55", None),
            ("\"api\";r=0;t=soon", None),
            ("", None),
        ] {
            assert_eq!(reset(header).map(|wait| wait.as_secs()), expected, "{header}");
        }
        // `"fixed window";"api";q=500;w=300` is the policy that comes with it.
        let longest = reset("\"api\";r=0;t=300").unwrap();
        assert!(Patience::default().longest_wait >= longest);
    }
}
