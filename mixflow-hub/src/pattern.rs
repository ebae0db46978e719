//! Which files of a repository.

/// Whether a file's name matches a pattern, as Python's `fnmatch` has it and `huggingface_hub` with it: `*` is any text,
/// slashes too, `?` one character, `[a-z]` and `[!a-z]` one of a set. A pattern that ends in `/` means all below.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut pattern: Vec<char> = pattern.chars().collect();
    if pattern.last() == Some(&'/') {
        pattern.push('*');
    }
    let name: Vec<char> = name.chars().collect();
    // Where to go on after the last star, should what follows it not match.
    let (mut p, mut n, mut back) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            back = Some((p + 1, n));
            p += 1;
        } else if let Some(length) = pattern.get(p..).and_then(|rest| one(rest, name[n])) {
            p += length;
            n += 1;
        } else if let Some((after, start)) = back {
            back = Some((after, start + 1));
            (p, n) = (after, start + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The pattern that matches this name alone.
#[cfg(feature = "pipeline")]
pub(crate) fn literally(name: &str) -> String {
    let letter = |c| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { String::from(c) };
    name.chars().map(letter).collect()
}

/// Length of what matches `c` at the start of a pattern.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match *pattern.first()? {
        '?' => Some(1),
        '[' => {
            let negated = pattern.get(1) == Some(&'!');
            let start = if negated { 2 } else { 1 };
            // A bracket that closes at once is a member of the set; one that never closes is itself.
            let Some(end) = pattern.iter().skip(start + 1).position(|&c| c == ']').map(|at| at + start + 1) else {
                return (c == '[').then_some(1);
            };
            (contains(&pattern[start..end], c) != negated).then_some(end + 1)
        }
        literal => (literal == c).then_some(1),
    }
}

fn contains(set: &[char], c: char) -> bool {
    match set {
        [low, '-', high, rest @ ..] => (*low..=*high).contains(&c) || contains(rest, c),
        [member, rest @ ..] => *member == c || contains(rest, c),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_fnmatch_means() {
        // As `fnmatch.fnmatchcase` of Python 3.11 answers.
        for (pattern, name, expected) in [
            ("*.json", "config.json", true),
            ("*.json", "vae/config.json", true),
            ("*.json", "config.json.bak", false),
            ("vae/*", "vae/a/b", true),
            ("vae/", "vae/a/b", true),
            ("vae", "vae/a", false),
            ("model-0000[12]-of-*.safetensors", "model-00002-of-00009.safetensors", true),
            ("model-0000[!12]*", "model-00002", false),
            ("[a-c]?", "bz", true),
            ("[]]", "]", true),
            ("[", "[", true),
            ("*a*b*c", "xxaybzzc", true),
            ("*a*b*c", "xxaybzz", false),
            ("", "", true),
            ("", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        assert!(!matches(&format!("{}c", "a*".repeat(50)), &format!("{}b", "a".repeat(5000))));
    }
}
