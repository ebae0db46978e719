//! A first look at a pickle, before anything is built from it.
//!
//! Nothing here or later executes a pickle. This pass bounds what the reader may build, and refuses by name what has no
//! place among weights.

use std::collections::HashMap;

/// Instructions of a pickle; a checkpoint of SiT-XL/2 with its average and optimiser has about 150,000. Bounds the
/// memory of what is built to a few hundred megabytes.
const MAX_INSTRUCTIONS: usize = 1_000_000;

/// What weights and the settings beside them are made of.
const KNOWN: [&str; 34] = [
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.frozenset",
    "builtins.set",
    "__builtin__.frozenset",
    "__builtin__.set",
    "collections.OrderedDict",
    "collections.defaultdict",
    "copyreg._reconstructor",
    "copy_reg._reconstructor",
    "builtins.object",
    "__builtin__.object",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "torch.Size",
    "torch.Tensor",
    "torch._tensor._rebuild_from_type_v2",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch.device",
    "torch.nn.parameter.Parameter",
    "torch.storage.UntypedStorage",
];

/// Element types: `torch.float32`, …
const KINDS: [&str; 6] = ["float", "bfloat", "int", "uint", "bool", "complex"];

/// Goes through one pickle at the start of `bytes` and returns its length; otherwise, what is wrong: the rest of a
/// sentence that starts with the file's name.
pub(super) fn check(bytes: &[u8]) -> Result<usize, String> {
    let mut scan = Scan { bytes, at: 0, strings: [None, None], memo: HashMap::new(), memoised: 0 };
    for _ in 0..MAX_INSTRUCTIONS {
        if scan.step()? {
            return Ok(scan.at);
        }
    }
    Err(format!("holds a pickle of more than {MAX_INSTRUCTIONS} instructions; weights need fewer"))
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The texts that were pushed last; none where something else was.
    strings: [Option<&'a str>; 2],
    memo: HashMap<u32, &'a str>,
    memoised: u32,
}

impl<'a> Scan<'a> {
    /// Takes one instruction. True at the end of the pickle.
    fn step(&mut self) -> Result<bool, String> {
        let start = self.at;
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(true),
            b'c' | b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                known(module, name)?;
            }
            0x93 => {
                let [Some(module), Some(name)] = self.strings else {
                    return Err("holds a pickle that computes the name of a class; weights need none such".into());
                };
                known(module, name)?;
            }
            // Text and bytes after their length.
            b'U' | 0x8c => self.text(1)?,
            b'T' | b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' | 0x8a => self.counted(1).map(drop)?,
            b'B' | 0x8b => self.counted(4).map(drop)?,
            0x8e | 0x96 => self.counted(8).map(drop)?,
            b'V' | b'S' => {
                let line = self.line()?;
                self.push(Some(line.trim_matches(['\'', '"'])));
            }
            b'F' | b'I' | b'L' | b'P' => self.line().map(drop)?,
            // The memo: put and get.
            0x94 => self.memoise(self.memoised),
            b'q' => self.number(1).map(|index| self.memoise(index))?,
            b'r' => self.number(4).map(|index| self.memoise(index))?,
            b'p' => self.index().map(|index| self.memoise(index))?,
            b'h' => self.number(1).map(|index| self.push(self.memo.get(&index).copied()))?,
            b'j' => self.number(4).map(|index| self.push(self.memo.get(&index).copied()))?,
            b'g' => self.index().map(|index| self.push(self.memo.get(&index).copied()))?,
            // Numbers of fixed size.
            0x80 | b'K' => self.take(1).map(drop)?,
            b'M' => self.take(2).map(drop)?,
            b'J' => self.take(4).map(drop)?,
            b'G' | 0x95 => self.take(8).map(drop)?,
            // The stack: marks, containers, calls, constants.
            b'('
            | b'0'
            | b'1'
            | b'2'
            | b'N'
            | b'Q'
            | b'R'
            | b'a'
            | b'b'
            | b'd'
            | b'}'
            | b'e'
            | b'l'
            | b']'
            | b'o'
            | b's'
            | b't'
            | b')'
            | b'u'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x92 => {}
            _ => return Err(format!("holds a pickle with the unknown instruction 0x{code:02x} at byte {start}")),
        }
        // Only texts and the memo keep what is known of the stack's top.
        if !matches!(
            code,
            b'U' | b'T' | b'X' | 0x8c | 0x8d | b'V' | b'S' | 0x94 | b'q' | b'r' | b'p' | b'h' | b'j' | b'g' | 0x95
        ) {
            self.strings = [None, None];
        }
        Ok(false)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.at..].get(..count).ok_or("holds a pickle that is cut off")?;
        self.at += count;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u32, String> {
        let mut number = [0; 4];
        number[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u32::from_le_bytes(number))
    }

    fn index(&mut self) -> Result<u32, String> {
        self.line()?.parse().map_err(|_| "holds a pickle with a damaged reference".into())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').ok_or("holds a pickle that is cut off")?;
        self.at += end + 1;
        Ok(std::str::from_utf8(&rest[..end]).unwrap_or_default())
    }

    /// Bytes after their length of so many bytes.
    fn counted(&mut self, bytes: usize) -> Result<&'a [u8], String> {
        let mut length = [0; 8];
        length[..bytes].copy_from_slice(self.take(bytes)?);
        self.take(usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    fn text(&mut self, bytes: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.counted(bytes)?).ok();
        self.push(text);
        Ok(())
    }

    fn push(&mut self, text: Option<&'a str>) {
        self.strings = [self.strings[1], text];
    }

    fn memoise(&mut self, index: u32) {
        match self.strings[1] {
            Some(text) => self.memo.insert(index, text),
            None => self.memo.remove(&index),
        };
        self.memoised += 1;
    }
}

fn known(module: &str, name: &str) -> Result<(), String> {
    let full = format!("{module}.{name}");
    let kind = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let storage = ["torch", "torch.cuda", "torch.storage"].contains(&module) && name.ends_with("Storage");
    if KNOWN.contains(&full.as_str()) || storage || module == "torch" && KINDS.contains(&kind) {
        return Ok(());
    }
    let full: String = full.chars().take(80).collect();
    Err(format!(
        "wants `{full}`, which weights do not need; nothing was executed: if you trust the file, save its weights as \
         safetensors with PyTorch"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_weights_do_not_need_is_refused_by_name() {
        for (pickle, expected) in [
            (&b"cos\nsystem\n(S'true'\ntR."[..], "`os.system`"),
            (b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x85R.", "`posix.system`"),
            (b"\x80\x04\x8c\x06system\x940\x8c\x05posix\x94h\x00\x93.", "`posix.system`"),
            (b"(S'true'\nios\nsystem\n.", "`os.system`"),
            (b"cos\nsystem\n0N.", "`os.system`"),
            (b"ctorch\nload\n.", "`torch.load`"),
            (b"cbuiltins\neval\n.", "`builtins.eval`"),
            (b"N\x93.", "computes the name"),
            (b"\x80\x02\xff.", "0xff at byte 2"),
            (b"\x82\x01.", "0x82"),
            (b"X\xff\xff\xff\x7fabc.", "cut off"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "cut off"),
            (b"", "cut off"),
            (b"cos", "cut off"),
            (b"gx\n.", "damaged reference"),
        ] {
            let problem = check(pickle).unwrap_err();
            assert!(problem.contains(expected), "{}: {problem}", pickle.escape_ascii());
        }
        let many = vec![b'N'; MAX_INSTRUCTIONS + 1];
        assert!(check(&many).unwrap_err().contains("more than 1000000 instructions"));
    }

    #[test]
    fn what_weights_are_made_of_passes() {
        for pickle in [
            &b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01."[..],
            b"ctorch\nFloatStorage\n0ctorch\nbfloat16\n0ctorch._utils\n_rebuild_tensor_v2\n.",
            b"cargparse\nNamespace\n)\x81}b.",
            b"I1\n.and more",
        ] {
            let end = pickle.iter().rposition(|&byte| byte == b'.').unwrap() + 1;
            assert_eq!(check(pickle), Ok(end), "{}", pickle.escape_ascii());
        }
    }
}
