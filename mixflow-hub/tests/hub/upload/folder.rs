//! What a folder may hold.

use std::fs;
use std::path::Path;

use mixflow_hub::{Error, Upload};

use super::{empty, model, upload, writer};
use crate::shared::repository;

#[test]
fn a_folder_that_is_none_is_named() {
    let setting = empty();
    let run = |folder: &Path| writer(&setting).upload(folder, &repository(), &Upload::new("a"), |_| {}).unwrap_err();
    let none = setting.folder.path().join("none");
    let error = run(&none);
    assert!(matches!(&error, Error::Io { action: "read", path, .. } if *path == none), "{error}");
    assert!(!error.to_string().contains("HF_HUB_CACHE"), "{error}");
    fs::create_dir(&none).unwrap();
    assert!(run(&none).to_string().ends_with("none cannot be uploaded: it holds no file"));
    assert!(setting.server.asked("").is_empty());
}

#[test]
fn a_repository_within_the_folder_is_refused() {
    for name in [".git", "samples/.GIT"] {
        let setting = empty();
        fs::create_dir(model(&setting).join(name)).unwrap();
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Folder { .. }) && error.to_string().contains("without .git"), "{error}");
        assert!(setting.server.asked("").is_empty());
    }
}

#[cfg(unix)]
#[test]
fn links_stay_in_the_folder() {
    use std::os::unix::fs::symlink;
    let setting = empty();
    let secret = setting.folder.path().join("secret");
    fs::write(&secret, "hidden").unwrap();
    fs::create_dir(setting.folder.path().join("other")).unwrap();
    for target in ["../secret", secret.to_str().unwrap(), "/etc/passwd", "../other", "/"] {
        symlink(target, model(&setting).join("link")).unwrap();
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Folder { .. }), "{error}");
        assert!(error.to_string().contains("link cannot be uploaded: it is a link that leads out"), "{error}");
        fs::remove_file(model(&setting).join("link")).unwrap();
    }
    // A folder that holds itself has no end; a link that leads nowhere is no file.
    for target in [".", "samples", "nowhere"] {
        symlink(target, model(&setting).join("link")).unwrap();
        assert!(matches!(upload(&setting), Err(Error::Folder { .. } | Error::Io { .. })), "{target}");
        fs::remove_file(model(&setting).join("link")).unwrap();
    }
    assert!(setting.server.asked("").is_empty());
    symlink("config.json", model(&setting).join("link")).unwrap();
    upload(&setting).unwrap();
    assert_eq!(setting.server.files(crate::shared::NAME, "main")["link"].bytes, crate::shared::CONFIG);
}

#[cfg(unix)]
#[test]
fn names_are_those_that_a_repository_may_have() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for name in [&b"a\\b"[..], b"a\nb", b"C:x", b"\xff"] {
        let setting = empty();
        fs::write(model(&setting).join(OsStr::from_bytes(name)), "").unwrap();
        let error = upload(&setting).unwrap_err();
        assert!(matches!(error, Error::Folder { .. }), "{error}");
        assert!(setting.server.asked("").is_empty());
    }
    let setting = empty();
    let deep = vec!["a".repeat(200); 6].join("/");
    fs::create_dir_all(model(&setting).join(&deep)).unwrap();
    fs::write(model(&setting).join(&deep).join("x"), "").unwrap();
    assert!(matches!(upload(&setting), Err(Error::Folder { .. })));
    // What is neither file nor folder would never end.
    let setting = empty();
    let _listener = std::os::unix::net::UnixListener::bind(model(&setting).join("socket")).unwrap();
    assert!(upload(&setting).unwrap_err().to_string().ends_with("it is neither a file nor a folder"));
}
