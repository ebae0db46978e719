//! The secret that a user of the Hub identifies with.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Error;

/// An access token. It shows itself to nobody: `Debug` hides it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token as the Hub gives it out, without the line ends and blanks around it.
    ///
    /// # Errors
    /// [`Error::Token`] with `origin`, if it is empty or has characters that no token has.
    pub fn new(text: &str, origin: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|reason| Error::Token { origin: origin.into(), reason })
    }

    /// As [`new`](Self::new), or what is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match text.trim() {
            "" => Err("it is empty"),
            text if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Self(text.into())),
            _ => Err("it has blanks or characters that no token has"),
        }
    }

    /// The token in a file, if there is such a file.
    ///
    /// # Errors
    /// If it cannot be read or holds no token. An empty file is as good as none.
    pub fn read(file: &Path) -> Result<Option<Self>, Error> {
        match std::fs::read_to_string(file) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Self::new(&text, &file.display().to_string()).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", file)(error)),
        }
    }

    /// When a login by the browser ends, as the file `stored` notes it: a section of each token, with its `hf_token` and
    /// `expires_at`, in seconds since 1970.
    ///
    /// # Source
    /// `huggingface_hub` 2.4.0 (`utils/_auth.py`), which renews such a token whenever it reads it.
    pub(crate) fn end(&self, stored: &Path) -> Option<SystemTime> {
        let text = std::fs::read_to_string(stored).ok()?;
        let value = |section: &str, name: &str| {
            let mut fields = section.lines().filter_map(|line| line.split_once('='));
            fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_string())
        };
        let section = text.split("\n[").find(|section| value(section, "hf_token").as_ref() == Some(&self.0))?;
        let seconds = value(section, "expires_at")?.parse().ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    /// Value of the header `Authorization` that sends the token.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Value of the header `Authorization` that sends the token as the password of a user.
    pub(crate) fn basic(&self, user: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{}", self.0)))
    }

    /// `text` without the token, should somebody have put it there.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_by_the_browser_ends() {
        let folder = tempfile::tempdir().unwrap();
        let stored = folder.path().join("stored_tokens");
        // As `configparser` writes it.
        let text =
            "[mine]\nhf_token = hf_mine\n\n[oauth-me]\nhf_token = hf_oauth_a\nrefresh_token = b\nexpires_at = 7\n\n";
        std::fs::write(&stored, text).unwrap();
        let end = |token: &str| Token::new(token, "a test").unwrap().end(&stored);
        assert_eq!(end("hf_oauth_a"), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(7)));
        assert_eq!([end("hf_mine"), end("hf_other"), end("b")], [None; 3]);
    }

    #[test]
    fn blanks_around_it_are_no_part_of_it_and_nothing_shows_it() {
        let token = Token::new(" hf_secret\r\n", "a test").unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        assert_eq!(token.basic("api"), "Basic YXBpOmhmX3NlY3JldA==");
        assert_eq!(format!("{token:?}"), "Token(***)");
        assert_eq!(token.hide_in("sent hf_secret to"), "sent *** to");
        for text in ["", " \n", "hf_ secret", "hf_sécret", "hf_\u{7f}"] {
            let error = Token::new(text, "HF_TOKEN").unwrap_err().to_string();
            assert!(error.starts_with("HF_TOKEN holds no token: it "), "{error}");
            assert!(text.trim().is_empty() || !error.contains(text.trim()), "{error}");
        }
    }
}
