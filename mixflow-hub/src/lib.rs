#![doc = include_str!("../README.md")]
//!
//! The only crate of mixflow that touches the network, and a leaf: nothing is built of it that does not ask for it. What
//! it promises:
//!
//! - What is in the cache under a hash had that hash. Names, hashes and commits that a server gives are checked before
//!   they become paths. A broken transfer goes on where it broke, in the next call too.
//! - No request waits for ever, and none is repeated for ever; see [`Patience`].
//! - The [`Token`] goes to the endpoint alone, encrypted, and never into an error, a `Debug` or a file.
//! - Nothing is sent but the requests themselves: no telemetry.
//!
//! # Uploads
//!
//! ```no_run
//! use std::path::Path;
//! use mixflow_hub::{Client, Upload};
//!
//! let upload = Upload::new("SiT-B/2, 400k steps").private(true);
//! let done = Client::from_env()?.upload(Path::new("model"), &"org/name".parse()?, &upload, |event| {
//!     println!("{event:?}");
//! })?;
//! println!("{} has it as {}, {} bytes were sent", done.address, done.commit, done.sent);
//! # Ok::<(), mixflow_hub::Error>(())
//! ```
//!
//! A folder is one commit: it is there whole, or not at all. Content is hashed first; what the branch or the store has by
//! that hash is not sent again, in the next call neither, and a file that changes meanwhile is an error. A commit names
//! its parent always. Where its answer is lost, or another commit came first, the branch is looked at, and only what it
//! lacks is committed upon it.
//!
//! Up to four large files are sent at once; where one fails, the others stop. Of a file that broke off in the middle, the
//! parts that arrived are kept by Xet alone: LFS at the Hub begins each attempt anew, with addresses for all parts, and has
//! no question that would tell which parts of an earlier one are there.
//!
//! Large files go to Xet, the Hub's own store, where a server offers it: it has chunks of files, so that of a checkpoint that
//! differs in part only that part is sent. Elsewhere they go by LFS; a server that takes them neither way is an error before
//! anything is sent.
//!
//! # Downloads
//!
//! Eight files come at once, and a large one by up to eight requests. What is in the cache is compared with its hash once,
//! since other programs write there, and then known by its length and time.
//!
//! What the Hub has in Xet comes from there, several chunks at once, as for Python's client: in order behind what is there of the
//! file, and compared with its length and SHA-256 as all content is. A store that fails is left, and the rest of this file and
//! all others of the same [`Client`] come by requests. 128 MB of chunks may wait for their turn.
//!
//! # Certificates
//!
//! Servers are believed by the certificates in the file or folder that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, else in that of
//! `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE`; where none is set by those of the system, to which companies add their own, or by
//! Mozilla's list where the system has none, as where a server of this machine without encryption sends to others. Xet knows the
//! first two variables and the system.
//!
//! # Why not `hf-hub`
//!
//! `hf-hub` 1.0.0 checks neither status nor length nor hash of what it downloads, uses names and commits of the server as
//! paths, and sends large files without Xet as part of the commit; it brings 326 packages, which take 178 CPU seconds to
//! build. The project's `COMPARE.md` has it fault by fault. What is needed of the protocol is a handful of requests, on
//! [`ureq`](https://docs.rs/ureq), which blocks, with rustls: all of this crate without `pipeline` and `xet`, trackers too, takes
//! 37 CPU seconds from nothing, measured in the same run (`cargo build -p mixflow-hub --no-default-features`).
//!
//! Runs are told to `TensorBoard` and Weights & Biases by the module [`tracker`].
//!
//! # Features
//!
//! - `pipeline` (default): networks from a repository ([`FromHub`]), and with them Burn. Without it the crate only downloads,
//!   uploads and tracks.
//! - `t2i`: networks that are told prompts from a repository, and with it the tokenizers of its text encoders.
//! - `xet` (default): Xet by Hugging Face's `hf-xet` 1.8, with its telemetry off. Without it, content comes and goes by the other
//!   ways that the Hub has for all of it. It brings 160 packages, tokio among them, and 112 CPU seconds, about a minute of a build
//!   on two cores: 162 instead of 50, beside other work (`cargo build -p mixflow-hub --no-default-features --features xet`). The
//!   variable `HF_HUB_DISABLE_XET` leaves it out at run time.

mod access;
mod address;
mod agent;
mod cache;
mod client;
mod commit;
mod digest;
mod download;
mod endpoint;
mod error;
mod lfs;
mod listing;
mod lock;
mod parallel;
mod parse;
mod patience;
mod pattern;
#[cfg(feature = "pipeline")]
mod pipeline;
mod progress;
#[cfg(feature = "pipeline")]
mod publication;
mod repository;
mod request;
mod revision;
mod send;
mod sync;
mod token;
pub mod tracker;
mod transfer;
mod trust;
mod upload;
mod upload_body;
mod upload_file;
mod url;
mod variables;
#[cfg(feature = "xet")]
mod xet;
#[cfg(feature = "xet")]
mod xet_access;

pub use address::Address;
pub use cache::Cache;
pub use client::Client;
pub use download::RepositorySnapshot;
pub use endpoint::Endpoint;
pub use error::Error;
pub use patience::Patience;
#[cfg(feature = "pipeline")]
pub use pipeline::FromHub;
pub use progress::TransferProgress;
#[cfg(feature = "pipeline")]
pub use publication::{Averaging, Choice, Provision, Publication, Published, SampleImages, Written};
pub use repository::{Kind, Repository};
pub use revision::{Commit, Revision};
pub use token::Token;
pub use upload::{Upload, Uploaded};
