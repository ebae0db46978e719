//! What the Hub gives: commits, listings, files.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::wire::{Answer, Request};
use super::{Files, State, unescape};

/// The Hub's answer.
pub(super) fn hub(state: &State, request: &Request, storage: &str) -> Answer {
    let token = request.token();
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let path = unescape(path);
    let (api, path) = match path.strip_prefix("/api/models/") {
        Some(path) => (true, path),
        None => (false, path.trim_start_matches('/')),
    };
    let parts: Vec<&str> = path.splitn(4, '/').collect();
    let [org, name, action, rest] = parts[..] else { return Answer::new(404, "no such page") };
    let missing = || Answer::error(if token.is_some() { 404 } else { 401 }, "RepoNotFound", "Repository not found");
    let Some(stored) = state.repositories.get(&format!("{org}/{name}")) else { return missing() };
    if stored.private.as_deref().is_some_and(|private| token != Some(private)) {
        return missing();
    }
    let revisions = stored.refs.keys().chain(stored.commits.keys());
    let revision =
        revisions.filter(|name| rest == **name || rest.starts_with(&format!("{name}/"))).max_by_key(|name| name.len());
    let no_revision = || Answer::error(404, "RevisionNotFound", "Invalid rev id");
    let Some(revision) = revision else { return no_revision() };
    let commit = stored.refs.get(revision).unwrap_or(revision);
    let files = &stored.commits[commit];
    match (api, action) {
        (true, "revision") => {
            let siblings: Vec<Value> = files.keys().map(|name| json!({ "rfilename": name })).collect();
            let (id, private) = (format!("{org}/{name}"), stored.private.is_some());
            Answer::json(
                &json!({ "_id": "1", "id": id, "modelId": id, "sha": commit, "siblings": siblings, "private": private }),
            )
        }
        (true, "xet-read-token" | "xet-write-token") => grant(state),
        (true, "tree") => tree(state, files, &request.path, query),
        (false, "resolve") => {
            if stored.gated {
                return Answer::error(if token.is_some() { 403 } else { 401 }, "GatedRepo", "Access is restricted");
            }
            let Some(content) = files.get(&rest[(revision.len() + 1).min(rest.len())..]) else {
                return Answer::error(404, "EntryNotFound", "Entry not found").header("X-Repo-Commit", commit);
            };
            let etag = format!("\"{}\"", content.hash());
            if !content.large {
                return Answer::new(200, content.bytes.clone()).header("ETag", etag).header("X-Repo-Commit", commit);
            }
            let xet = state.xet.as_ref().and_then(|xet| xet.files.get(&content.sha256()));
            let mut answer = Answer::new(302, "");
            if let Some((hash, _)) = xet {
                let here = format!("http://{}", request.header("host").unwrap());
                let route = format!("{here}/api/models/{org}/{name}/xet-read-token/{commit}");
                let link = format!("<{route}>; rel=\"xet-auth\"");
                answer = answer.header("X-Xet-Hash", hash).header("X-Xet-Refresh-Route", route).header("Link", link);
            }
            answer
                .header("Location", format!("{storage}/{}?Signature=signed", content.sha256()))
                .header("X-Linked-Etag", etag)
                .header("X-Linked-Size", content.bytes.len().to_string())
                .header("X-Repo-Commit", commit)
        }
        _ => Answer::new(404, "no such page"),
    }
}

/// The right to use the other store. It is not the token.
fn grant(state: &State) -> Answer {
    let Some(xet) = &state.xet else { return Answer::new(404, "no such store") };
    Answer::json(&json!({ "casUrl": xet.address, "accessToken": "granted", "exp": 9_999_999_999_u64 }))
        .header("X-Xet-Cas-Url", &xet.address)
        .header("X-Xet-Access-Token", "granted")
        .header("X-Xet-Token-Expiration", "9999999999")
}

/// One page of a listing.
fn tree(state: &State, files: &Files, path: &str, query: &str) -> Answer {
    let mut entries: Vec<Value> = files
        .iter()
        .map(|(name, content)| {
            let mut entry = json!({
                "type": "file", "oid": content.git_hash(), "size": content.bytes.len(), "path": name,
            });
            if content.large {
                let pointer = json!({ "oid": content.sha256(), "size": content.bytes.len(), "pointerSize": 134 });
                entry["lfs"] = pointer;
                let xet = state.xet.as_ref().and_then(|xet| xet.files.get(&content.sha256()));
                xet.inspect(|(hash, _)| entry["xetHash"] = hash.as_str().into());
            }
            entry
        })
        .collect();
    entries.push(json!({ "type": "directory", "oid": "0".repeat(40), "size": 0, "path": "vae" }));
    entries.extend(state.listed.clone());
    let from = query.split('&').find_map(|part| part.strip_prefix("cursor=")?.parse().ok()).unwrap_or(0usize);
    let to = (from + state.page).min(entries.len());
    let answer = Answer::json(&Value::Array(entries[from..to].to_vec()));
    if to == entries.len() {
        return answer;
    }
    let path = path.split("&cursor=").next().unwrap();
    answer.header("Link", format!("<{path}&cursor={to}>; rel=\"next\""))
}

/// The storage server's answer.
pub(super) fn store(state: &State, request: &Request) -> Answer {
    let hash = request.path.trim_start_matches('/').split('?').next().unwrap();
    let contents = state.repositories.values().flat_map(|stored| stored.commits.values()).flat_map(BTreeMap::values);
    match contents.into_iter().find(|content| content.large && content.sha256() == hash) {
        Some(content) => Answer::new(200, content.bytes.clone()),
        None => Answer::new(404, "no such content"),
    }
}
