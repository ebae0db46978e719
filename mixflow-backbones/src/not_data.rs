//! What lies in a file where something else was expected.

/// The first bytes that are needed to tell.
pub const LOOKED_AT: usize = 512;

/// What a read of a text that failed says: of bytes that are none, the standard library's words are about streams.
pub fn why_not_text(error: std::io::Error) -> std::io::Error {
    let kind = error.kind();
    let is_no_text = kind == std::io::ErrorKind::InvalidData && error.to_string().contains("valid UTF-8");
    if is_no_text { std::io::Error::new(kind, "it is no text in UTF-8") } else { error }
}

/// What a file is that starts with these bytes and is no data at all: empty, a pointer to the data, a web page, or data
/// that is still packed; the rest of a sentence that starts with its name. None where it may be anything else.
///
/// ```
/// use mixflow_backbones::not_data::{why_not_data, why_not_binary};
///
/// assert!(why_not_data(b"<!DOCTYPE html>").is_some_and(|what| what.starts_with("is a web page")));
/// assert_eq!(why_not_data(b"{}"), None);
/// assert!(why_not_binary(b"{\"error\": \"no token\"}").is_some_and(|what| what.contains("no token")));
/// ```
pub fn why_not_data(start: &[u8]) -> Option<String> {
    let start = &start[..start.len().min(LOOKED_AT)];
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let tag = text.get(..14).unwrap_or(text).to_ascii_lowercase();
    let page = ["<!doctype html", "<html", "<head", "<?xml", "<error"].iter().any(|start| tag.starts_with(start));
    let packed = [
        (&b"\x1f\x8b"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"BZh", "bzip2"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    ];
    let what = if start.is_empty() {
        "is empty: its download or copy did not finish; fetch it again".into()
    } else if text.starts_with("version https://git-lfs.github.com/") {
        "is a Git LFS pointer, a note of where the file itself is: fetch that with `git lfs pull`, or `cargo xtask \
         download`"
            .into()
    } else if text.starts_with("/annex/objects/") {
        "is a git-annex pointer, a note of where the file itself is: fetch that with `git annex get`".into()
    } else if page {
        "is a web page, not the file itself: download it from the address behind its download button (of the Hugging Face \
         Hub: with `/resolve/`, not `/blob/`), or with `cargo xtask download`"
            .into()
    } else if let Some((_, name)) = packed.iter().find(|(magic, _)| start.starts_with(magic)) {
        format!("is packed by {name}: unpack it first")
    } else {
        return None;
    };
    Some(what)
}

/// The same where no text is expected: as well what a server answered instead, or other text.
pub fn why_not_binary(start: &[u8]) -> Option<String> {
    /// Characters that are shown.
    const SHOWN: usize = 60;
    why_not_data(start).or_else(|| {
        let start = &start[..start.len().min(LOOKED_AT)];
        let text = match str::from_utf8(start) {
            Ok(text) => text,
            // Cut inside of a character.
            Err(error) if error.error_len().is_none() => str::from_utf8(&start[..error.valid_up_to()]).ok()?,
            Err(_) => return None,
        };
        if text.chars().any(|letter| letter.is_control() && !letter.is_whitespace()) {
            return None;
        }
        let kind = if text.trim_start().starts_with(['{', '[']) { "JSON" } else { "text" };
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let more = if line.chars().count() > SHOWN { "…" } else { "" };
        let line: String = line.chars().take(SHOWN).collect();
        Some(format!("is {kind}, perhaps the answer of a server instead of the file: {line}{more}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_told_so() {
        let read = |bytes: &'static [u8]| std::io::read_to_string(bytes).map_err(why_not_text);
        assert_eq!(read(b"ch\xe2t").unwrap_err().to_string(), "it is no text in UTF-8");
        assert_eq!(read("chât".as_bytes()).unwrap(), "chât");
        let other = std::io::Error::new(std::io::ErrorKind::InvalidData, "it is torn");
        assert_eq!(why_not_text(other).to_string(), "it is torn");
    }

    #[test]
    fn what_was_saved_by_mistake_is_named() {
        let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 9\n";
        for (start, words) in [
            ("", "is empty"),
            (lfs, "git lfs pull"),
            ("/annex/objects/SHA256E-s3--01.pt\n", "git annex get"),
            ("\u{feff}\n <!DOCTYPE html><html>", "/resolve/"),
            ("<html lang=\"en\">", "is a web page"),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "is a web page"),
        ] {
            for found in [why_not_data(start.as_bytes()), why_not_binary(start.as_bytes())] {
                assert!(found.as_ref().is_some_and(|found| found.contains(words)), "{start}: {found:?}");
            }
        }
        assert!(why_not_data(&[0x1f, 0x8b, 8, 0]).is_some_and(|found| found.contains("gzip")));
    }

    #[test]
    fn text_is_mistaken_only_where_none_is_expected() {
        let error = "{\"error\": \"Invalid credentials in Authorization header, and much more that nobody needs\"}";
        assert_eq!(why_not_data(error.as_bytes()), None);
        let found = why_not_binary(error.as_bytes()).unwrap_or_default();
        assert!(
            found.starts_with("is JSON,") && found.contains("Invalid credentials") && found.ends_with('…'),
            "{found}"
        );
        assert!(why_not_binary(b"Entry not found").is_some_and(|found| found.ends_with("Entry not found")));
    }

    #[test]
    fn data_is_not_mistaken() {
        // A zip archive, a pickle, safetensors, a PNG, numbers.
        let starts: [&[u8]; 5] =
            [b"PK\x03\x04\x14\x00", b"\x80\x02}q\x00.", b"\x40\0\0\0\0\0\0\0{\"a\":", b"\x89PNG\r\n\x1a\n", &[0; 16]];
        for start in starts {
            assert_eq!(why_not_binary(start), None, "{}", start.escape_ascii());
        }
    }
}
