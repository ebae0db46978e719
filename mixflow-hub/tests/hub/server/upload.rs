//! What the Hub takes: repositories, branches, large files and commits.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::wire::{Answer, Request};
use super::{Content, Files, State, Stored, unescape};

/// The Hub's answer.
pub(super) fn hub(state: &mut State, request: &Request, storage: &str) -> Answer {
    let here = format!("http://{}", request.header("host").unwrap());
    let path = unescape(request.path.split('?').next().unwrap());
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    // The address of a finished upload is signed, and needs no token.
    if let ["api", "complete", oid] = parts[..] {
        return complete(state, oid, &body);
    }
    let Some(token) = request.token() else {
        return Answer::error(401, "", "Invalid username or password.");
    };
    if let ["api", "whoami-v2"] = parts[..] {
        let scope = json!([{ "entity": { "type": "org", "name": "org" }, "permissions": ["repo.content.read"] }]);
        let access = json!({ "displayName": "test", "role": state.rules.role, "fineGrained": { "scoped": scope } });
        return Answer::json(&json!({ "type": "user", "name": "org", "auth": { "accessToken": access } }));
    }
    if state.rules.role != "write" {
        return Answer::error(403, "", "You must use a token with write access");
    }
    if let ["api", "validate-yaml"] = parts[..] {
        return Answer::json(&json!({ "errors": [], "warnings": [] }));
    }
    if let ["api", "repos", "create"] = parts[..] {
        return create(state, token, &body, &here);
    }
    let api = parts[0] == "api";
    let id = if api { parts[2..4].join("/") } else { parts[..2].join("/") };
    let id = id.trim_end_matches(".git").to_string();
    let Some(stored) = state.repositories.get_mut(&id) else {
        return Answer::error(404, "RepoNotFound", "Repository not found");
    };
    match parts[if api { 4 } else { 2 }..] {
        ["branch", branch] => {
            if stored.refs.contains_key(branch) {
                return Answer::error(409, "", &format!("Reference already exists: refs/heads/{branch}"));
            }
            let main = stored.refs["main"].clone();
            stored.refs.insert(branch.into(), main);
            Answer::json(&json!({}))
        }
        ["preupload", branch] if stored.refs.contains_key(branch) => {
            let files = stored.commits[&stored.refs[branch]].clone();
            sort(state, &files, &body)
        }
        ["commit", branch] if stored.refs.contains_key(branch) => commit(state, &id, branch, &request.body, &here),
        ["info", "lfs", "objects", "batch"] => batch(state, &id, &body, &here, storage),
        ["info", "lfs", "objects", "verify"] => match state.objects.get(body["oid"].as_str().unwrap()) {
            Some(bytes) if body["size"] == bytes.len() => Answer::json(&json!({})),
            _ => Answer::error(404, "", "Object not found"),
        },
        _ => Answer::new(404, "no such page"),
    }
}

fn create(state: &mut State, token: &str, body: &Value, here: &str) -> Answer {
    let id = format!("{}/{}", body["organization"].as_str().unwrap_or("org"), body["name"].as_str().unwrap());
    if !id.starts_with("org/") {
        return Answer::error(403, "", "You don't have the rights to create a model under this namespace");
    }
    if state.repositories.contains_key(&id) {
        return Answer::new(409, json!({ "error": "You already created this model repo" }).to_string());
    }
    let private = (state.rules.private && body["visibility"] == "private").then(|| token.to_string());
    let mut stored = Stored { private, ..Stored::default() };
    let attributes = Content { bytes: b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec(), large: false };
    stored.commit(&id, "main", Files::from([(".gitattributes".into(), attributes)]));
    state.repositories.insert(id.clone(), stored);
    Answer::json(&json!({ "url": format!("{here}/{id}"), "name": id, "id": "1" }))
}

/// Whether the Hub keeps a file apart.
fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".bin")
}

fn sort(state: &State, files: &Files, body: &Value) -> Answer {
    let sorted = body["files"].as_array().unwrap().iter().map(|file| {
        let name = file["path"].as_str().unwrap();
        assert!(
            file["size"].is_u64() && BASE64_STANDARD.decode(file["sample"].as_str().unwrap()).unwrap().len() <= 512
        );
        let mode = if is_large(name) { state.rules.mode } else { "regular" };
        let oid = files.get(name).map(Content::hash);
        json!({ "path": name, "uploadMode": mode, "shouldIgnore": state.rules.ignored.contains(&name), "oid": oid })
    });
    Answer::json(&json!({ "files": sorted.collect::<Vec<_>>() }))
}

/// Where each object goes, unless it is there.
fn batch(state: &State, id: &str, body: &Value, here: &str, storage: &str) -> Answer {
    assert_eq!((&body["operation"], &body["hash_algo"]), (&json!("upload"), &json!("sha256")));
    let objects = body["objects"].as_array().unwrap().iter().map(|object| {
        let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
        if state.objects.contains_key(oid) {
            return json!({ "oid": oid, "size": size });
        }
        let mut upload = json!({ "href": format!("{storage}/{oid}?Signature=signed"), "header": {} });
        if let Some(part) = state.rules.part.filter(|part| size > *part) {
            upload["href"] = format!("{here}/api/complete/{oid}?Signature=signed").into();
            upload["header"]["chunk_size"] = part.to_string().into();
            for number in 1..=size.div_ceil(part) {
                let name = format!("{number:05}");
                upload["header"][name] = format!("{storage}/{oid}?partNumber={number}&Signature=signed").into();
            }
        }
        let verify = format!("{here}/{id}.git/info/lfs/objects/verify");
        json!({ "oid": oid, "size": size, "actions": { "upload": upload, "verify": { "href": verify } } })
    });
    let xet = state.xet.is_some() && body["transfers"].as_array().unwrap().contains(&json!("xet"));
    let transfer = state.rules.transfer.or(xet.then_some("xet")).unwrap_or(if state.rules.part.is_some() {
        "multipart"
    } else {
        "basic"
    });
    Answer::json(&json!({ "transfer": transfer, "objects": objects.collect::<Vec<_>>() }))
}

/// Keeps what comes, a whole file only if it has the hash that its address has.
pub(super) fn store(state: &mut State, request: &Request) -> Answer {
    let (oid, query) = request.path.trim_start_matches('/').split_once('?').unwrap();
    let content = Content { bytes: request.body.clone(), large: true };
    let tag = content.git_hash();
    match query.split('&').find_map(|part| part.strip_prefix("partNumber=")) {
        Some(number) => {
            state.parts.insert((oid.into(), number.parse().unwrap()), content.bytes);
        }
        None if content.sha256() != oid => return Answer::new(400, "the content has another hash"),
        None => {
            state.objects.insert(oid.into(), content.bytes);
        }
    }
    Answer::new(200, "").header("ETag", format!("\"{tag}\""))
}

/// Puts the parts of a file together. Their tags must be those that they were answered with.
fn complete(state: &mut State, oid: &str, body: &Value) -> Answer {
    let mut bytes = vec![];
    for (index, part) in body["parts"].as_array().unwrap().iter().enumerate() {
        let number = part["partNumber"].as_u64().unwrap();
        let Some(found) = state.parts.remove(&(oid.to_string(), number)) else {
            return Answer::error(404, "", "The specified upload does not exist");
        };
        let content = Content { bytes: found, large: true };
        if number != index as u64 + 1 || part["etag"] != format!("\"{}\"", content.git_hash()) {
            return Answer::error(400, "", "One or more of the specified parts could not be found");
        }
        bytes.extend(content.bytes);
    }
    let content = Content { bytes, large: true };
    if body["oid"] != oid || content.sha256() != oid {
        return Answer::error(400, "", "The content has another hash");
    }
    state.objects.insert(oid.into(), content.bytes);
    Answer::json(&json!({}))
}

fn commit(state: &mut State, id: &str, branch: &str, body: &[u8], here: &str) -> Answer {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let stored = state.repositories.get_mut(id).unwrap();
    let parent = stored.refs[branch].clone();
    let mut files = stored.commits[&parent].clone();
    for line in &lines {
        let value = &line["value"];
        let name = || value["path"].as_str().unwrap().to_string();
        match line["key"].as_str().unwrap() {
            "header" => {
                assert!(!value["summary"].as_str().unwrap().is_empty());
                if value["parentCommit"].as_str().is_some_and(|named| named != parent) {
                    return Answer::error(412, "", "A commit has happened since. Please refresh and try again.");
                }
            }
            "file" => {
                let bytes = BASE64_STANDARD.decode(value["content"].as_str().unwrap()).unwrap();
                files.insert(name(), Content { bytes, large: false });
            }
            "lfsFile" => {
                let oid = value["oid"].as_str().unwrap();
                let xet = state.xet.as_ref().and_then(|xet| xet.files.get(oid)).map(|(_, bytes)| bytes);
                let Some(bytes) = state.objects.get(oid).or(xet) else {
                    return Answer::error(400, "", "LFS pointer pointed to a file that does not exist");
                };
                files.insert(name(), Content { bytes: bytes.clone(), large: true });
            }
            "deletedFile" => {
                files.remove(&name());
            }
            other => return Answer::error(400, "", &format!("unknown key {other}")),
        }
    }
    let commit = stored.commit(&format!("{id} {parent}"), branch, files);
    Answer::json(&json!({ "success": true, "commitOid": commit, "commitUrl": format!("{here}/{id}/commit/{commit}") }))
}
