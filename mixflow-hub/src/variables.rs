//! Variables of the environment, as Python's programs read them.

use std::ffi::OsString;
use std::path::PathBuf;

/// Variables of the environment. An empty one counts as none.
pub(crate) struct Variables<R> {
    read: R,
    /// The folder of the user, where no variable names it.
    user: fn() -> Option<PathBuf>,
}

/// A variable that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoText(pub(crate) &'static str);

impl NoText {
    pub(crate) const REASON: &'static str = "is not UTF-8";
}

impl Variables<fn(&str) -> Option<OsString>> {
    /// The variables of this process.
    pub(crate) fn of_process() -> Self {
        Self { read: |name| std::env::var_os(name), user: std::env::home_dir }
    }
}

impl<R: Fn(&str) -> Option<OsString>> Variables<R> {
    /// The variables that `read` gives, and nothing else.
    pub(crate) fn new(read: R) -> Self {
        Self { read, user: || None }
    }

    fn value(&self, name: &str) -> Option<OsString> {
        (self.read)(name).filter(|value| !value.is_empty())
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, NoText> {
        self.value(name).map(|value| value.into_string().map_err(|_| NoText(name))).transpose()
    }

    /// Whether a variable says yes; none where it is not set.
    pub(crate) fn flag(&self, name: &'static str) -> Result<Option<bool>, NoText> {
        let yes = |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        Ok(self.text(name)?.map(yes))
    }

    /// A path, in which `~` and variables, `$NAME` or `${NAME}`, are what they stand for; those that are not set stay, as in
    /// Python's `os.path.expandvars`, and so does a `~` of nobody.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let path = match self.value(name)?.into_string() {
            Ok(text) => PathBuf::from(self.expanded(&text)),
            Err(other) => PathBuf::from(other),
        };
        Some(path.strip_prefix("~").ok().and_then(|rest| Some(self.home()?.join(rest))).unwrap_or(path))
    }

    /// The folder of the user, which `~` stands for.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        let named = self.value(HOME).map(PathBuf::from);
        named.or_else(self.user).filter(|home| !home.as_os_str().is_empty())
    }

    fn expanded(&self, text: &str) -> OsString {
        let (mut whole, mut rest) = (OsString::new(), text);
        while let Some(start) = rest.find('$') {
            let after = &rest[start + 1..];
            let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, _)) => (name, name.len() + 2),
                None => {
                    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                    (&after[..end], end)
                }
            };
            let end = start + 1 + length;
            whole.push(&rest[..start]);
            whole.push(self.value(name).unwrap_or_else(|| rest[start..end].into()));
            rest = &rest[end..];
        }
        whole.push(rest);
        whole
    }
}

/// The variable that names the folder of the user, as for Python's `os.path.expanduser`.
pub(crate) const HOME: &str = if cfg!(windows) { "USERPROFILE" } else { "HOME" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_names_a_folder_where_no_variable_does() {
        fn of(
            variables: &[(&str, &str)],
            user: fn() -> Option<PathBuf>,
        ) -> Variables<impl Fn(&str) -> Option<OsString>> {
            let variables: Vec<(String, OsString)> =
                variables.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
            let read = move |name: &str| Some(variables.iter().find(|(found, _)| found == name)?.1.clone());
            Variables { read, user }
        }
        let home = |variables: &[(&str, &str)]| of(variables, || Some("/u".into())).home();
        assert_eq!(home(&[(HOME, "/v")]), Some("/v".into()));
        assert_eq!(home(&[]), Some("/u".into()));
        assert_eq!(home(&[(HOME, "")]), Some("/u".into()));
        let path = |user: fn() -> Option<PathBuf>| of(&[("A", "~/x")], user).path("A");
        assert_eq!(path(|| Some("/u".into())), Some("/u/x".into()));
        assert_eq!(path(|| None), Some("~/x".into()));
        assert_eq!(of(&[], || Some("".into())).home(), None);
    }
}
