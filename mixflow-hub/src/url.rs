//! Addresses.

use std::fmt;

use ureq::http::Uri;

/// An absolute address that is `http` or `https`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Scheme and host with port, such as `https://huggingface.co`.
    origin: String,
    /// Path and query, from the first slash.
    rest: String,
}

impl Url {
    /// The address in `text`, or why there is none.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "is no address")?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("must start with https://");
        };
        if scheme != "https" && scheme != "http" {
            return Err("must start with https://");
        }
        if authority.as_str().contains('@') {
            return Err("must hold no user and password");
        }
        let origin = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase());
        let usual = if scheme == "https" { ":443" } else { ":80" };
        let origin = origin.strip_suffix(usual).unwrap_or(&origin).to_string();
        let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
        Ok(Self { origin, rest: rest.into() })
    }

    /// The address of a server as somebody names it; or what of that may be repeated, and why it is none.
    pub(crate) fn of_server(address: &str) -> Result<Self, (String, &'static str)> {
        // A name and password in the address are not repeated.
        let shown = address.rsplit_once('@').map_or(address, |(_, host)| host);
        let url = match address.contains(['?', '#']) {
            true => Err("must have no query"),
            false => Self::parse(address.trim_end_matches('/')),
        };
        url.map_err(|reason| (shown.into(), reason))
    }

    /// The address that a redirect from here leads to: an absolute one, or a path that starts with a slash.
    pub(crate) fn join(&self, location: &str) -> Result<Self, &'static str> {
        match location {
            _ if location.starts_with("//") => Self::parse(&format!("{}:{location}", self.scheme())),
            _ if location.starts_with('/') => Self::parse(&format!("{}{location}", self.origin)),
            _ => Self::parse(location),
        }
    }

    /// Where a redirect from here leads, which must not give up encryption; or what is wrong with it.
    pub(crate) fn redirect(&self, location: Option<&str>) -> Result<Self, String> {
        let location = location.ok_or("it redirects without saying where to")?;
        let there = self.join(location).map_err(|reason| format!("it redirects to an address that {reason}"))?;
        if self.scheme() == "https" && there.scheme() != "https" {
            return Err("it redirects to an address without encryption".into());
        }
        Ok(there)
    }

    /// The address with `more` at the end of its path; for addresses without query.
    pub(crate) fn with(&self, more: &str) -> Self {
        Self { origin: self.origin.clone(), rest: format!("{}/{more}", self.rest.trim_end_matches('/')) }
    }

    /// Whether two addresses have scheme, host and port in common, so that a secret for the one may go to the other.
    pub(crate) fn same_origin(&self, other: &Self) -> bool {
        self.origin == other.origin
    }

    pub(crate) fn scheme(&self) -> &str {
        self.origin.split(':').next().unwrap_or_default()
    }

    /// The server's name, with the port where it is not the usual one.
    pub(crate) fn host(&self) -> &str {
        self.origin.split_once("://").map_or("", |(_, host)| host)
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        let name = host.strip_prefix('[').and_then(|host| host.split(']').next());
        let name = name.unwrap_or_else(|| host.split(':').next().unwrap_or_default());
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The address with its query, for requests only: the query of a storage server is a signature.
    pub(crate) fn whole(&self) -> String {
        format!("{}{}", self.origin, self.rest)
    }
}

/// Without the query.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.rest.split('?').next().unwrap_or_default();
        write!(f, "{}{}", self.origin, if path == "/" { "" } else { path })
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name for a path: everything but letters, digits, `-._~` and slashes is escaped, slashes where `slashes` is false.
pub(crate) fn escape(name: &str, slashes: bool) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
            b'/' if slashes => escaped.push('/'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of the tests has no certificate that is trusted, so that this is no test over a line.
    #[test]
    fn a_redirect_never_gives_up_encryption() {
        let from = |address: &str, location: Option<&str>| {
            let address = Url::parse(address).unwrap();
            address.redirect(location).map(|there| there.whole())
        };
        let (secret, plain) = ("https://hub.example/a", "http://hub.example/a");
        for (start, location, expected) in [
            (secret, "/b?c", "https://hub.example/b?c"),
            (secret, "//store.example/b", "https://store.example/b"),
            (secret, "https://store.example/b?c", "https://store.example/b?c"),
            (plain, "/b", "http://hub.example/b"),
            (plain, "http://store.example/b", "http://store.example/b"),
            (plain, "https://hub.example/b", "https://hub.example/b"),
        ] {
            assert_eq!(from(start, Some(location)).unwrap(), expected);
        }
        for (location, reason) in [
            (Some("http://hub.example/a"), "without encryption"),
            (Some("HTTP://hub.example:443/a"), "without encryption"),
            (Some("http://127.0.0.1/a"), "without encryption"),
            (Some("ftp://hub.example/a"), "must start with https://"),
            (Some("b"), "must start with https://"),
            (None, "without saying where to"),
        ] {
            let error = from(secret, location).unwrap_err();
            assert!(error.contains(reason), "{location:?}: {error}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let here = Url::parse("https://Hub.example:443/a/b?q=1").unwrap();
        for (location, whole, same) in [
            ("/c?d=e", "https://hub.example/c?d=e", true),
            ("https://hub.example/c", "https://hub.example/c", true),
            ("https://hub.example:444/c", "https://hub.example:444/c", false),
            ("http://hub.example/c", "http://hub.example/c", false),
            ("//cdn.example/c", "https://cdn.example/c", false),
            ("https://hub.example.evil/c", "https://hub.example.evil/c", false),
        ] {
            let there = here.join(location).unwrap();
            assert_eq!((there.whole().as_str(), there.same_origin(&here)), (whole, same));
        }
        for location in ["", "ftp://x/y", "file:///etc/passwd", "https://u:p@hub.example/", "c/d"] {
            assert!(here.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn a_query_is_never_shown() {
        let url = Url::parse("https://cdn.example/blob?X-Amz-Signature=secret").unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://cdn.example/blob https://cdn.example/blob");
        assert!(url.whole().ends_with("secret"));
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(escape("a b/ü#?%.bin", true), "a%20b/%C3%BC%23%3F%25.bin");
        assert_eq!(escape("refs/pr/1", false), "refs%2Fpr%2F1");
        for (address, expected) in
            [("http://127.0.0.1:80/", true), ("http://[::1]:8/", true), ("http://localhost", true)]
        {
            assert_eq!(Url::parse(address).unwrap().is_loopback(), expected);
        }
        assert!(!Url::parse("http://127.0.0.1.evil.example").unwrap().is_loopback());
    }
}
