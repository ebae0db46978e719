//! Keys in `.netrc`, where `wandb login` leaves them.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;

use crate::Token;
use crate::tracker::Error;
use crate::variables::Variables;

/// The password of a machine, a host with its port where that is not the usual one, in the file that `NETRC` names, or in
/// `.netrc` or `_netrc` in the user's folder. An entry `default`, which is a password of anything, is not taken.
///
/// # Errors
/// If the file cannot be read, or the password can be no key; that there is none is no error.
pub(super) fn key<R>(variables: &Variables<R>, machine: &str) -> Result<Option<Token>, Error>
where
    R: Fn(&str) -> Option<OsString>,
{
    let user = || [".netrc", "_netrc"].map(|name| Some(variables.home()?.join(name))).into_iter().flatten();
    let Some(file) = variables.path("NETRC").or_else(|| user().find(|file| file.exists())) else { return Ok(None) };
    match fs::read_to_string(&file) {
        Ok(text) => find(&text, machine).map(|password| token(&password, &file.display().to_string())).transpose(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &file)(error)),
    }
}

/// The key in a text that was found at `origin`.
pub(super) fn token(text: &str, origin: &str) -> Result<Token, Error> {
    Token::parse(text).map_err(|reason| Error::Key { origin: origin.into(), reason })
}

/// As Python's `netrc` reads it; the last of several entries counts.
fn find(text: &str, machine: &str) -> Option<String> {
    let (mut found, mut ours, mut words) = (None, false, Words { rest: text });
    while let Some(word) = words.next() {
        match word.as_str() {
            "machine" => ours = words.next().as_deref() == Some(machine),
            "default" => ours = false,
            "macdef" => {
                ours = false;
                words.skip_past("\n\n");
            }
            "password" => found = words.next().filter(|_| ours).or(found),
            "login" | "user" | "account" => drop(words.next()),
            _ if word.starts_with('#') => words.skip_past("\n"),
            _ => {}
        }
    }
    found.filter(|password| !password.is_empty())
}

/// Words between blanks, with quotation marks around a word or a backslash before a character.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    /// Goes on after the next of these line ends; one that has just been passed counts.
    fn skip_past(&mut self, end: &str) {
        self.rest = self.rest.split_once(end).map_or("", |(_, rest)| rest);
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let is_blank = |c: char| " \t\r\n".contains(c);
        let start = self.rest.trim_start_matches(is_blank);
        let quoted = start.starts_with('"');
        let (mut word, mut escaped) = (String::new(), false);
        for (at, c) in start.char_indices().skip(usize::from(quoted)) {
            let ends = if quoted { c == '"' } else { is_blank(c) };
            if ends && !escaped {
                // The blank is left, so that a comment knows its line; a quotation mark is not.
                self.rest = &start[at + usize::from(quoted)..];
                return Some(word);
            }
            escaped = c == '\\' && !escaped;
            if !escaped {
                word.push(c);
            }
        }
        self.rest = "";
        (!start.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_the_machine_is_found() {
        for (text, expected) in [
            ("machine api.wandb.ai\n  login user\n  password 5ecre7\n", Some("5ecre7")),
            ("machine api.wandb.ai login user password 5ecre7", Some("5ecre7")),
            (
                "machine other password a\nmachine api.wandb.ai\n\tpassword 5ecre7\nmachine last password b",
                Some("5ecre7"),
            ),
            ("machine api.wandb.ai password old\nmachine api.wandb.ai password 5ecre7", Some("5ecre7")),
            ("machine \"api.wandb.ai\" login \"a b\" password \"5e\\\"c re7\"", Some("5e\"c re7")),
            ("machine api.wandb.ai password 5e\\ c\\\\re7", Some("5e c\\re7")),
            (
                "# machine api.wandb.ai password no\nmachine api.wandb.ai # password no\n password 5ecre7",
                Some("5ecre7"),
            ),
            ("macdef init\nmachine api.wandb.ai password no\n\nmachine api.wandb.ai password 5ecre7", Some("5ecre7")),
            ("machine api.wandb.ai account password login password password 5ecre7", Some("5ecre7")),
            ("default login user password 5ecre7", None),
            ("machine api.wandb.ai login user\ndefault password 5ecre7", None),
            ("machine api.wandb.ai.example password 5ecre7", None),
            ("machine api.wandb.ai password \"\"", None),
            ("machine api.wandb.ai password", None),
            ("machine", None),
            ("", None),
        ] {
            assert_eq!(find(text, "api.wandb.ai").as_deref(), expected, "{text}");
        }
    }
}
