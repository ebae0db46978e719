//! Arrays in an archive of NumPy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mixflow::files::npz::Npz;
use mixflow_fuzz::as_file;

/// Values of an array that are read: compressed ones can be many more than the file has bytes.
const VALUES: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    as_file(bytes, |path| {
        let Ok(mut archive) = Npz::open(path) else { return };
        let names: Vec<String> = archive.names().map(Into::into).collect();
        for name in names.iter().take(8) {
            let Ok(array) = archive.array(name) else { continue };
            let count: usize = array.shape().iter().product();
            if count <= VALUES {
                assert!(array.values().map_or(true, |values| values.len() == count), "{name}");
            }
        }
    });
});
