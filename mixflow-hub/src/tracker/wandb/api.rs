//! What is asked of a server of Weights & Biases.
//!
//! # Source
//! The requests of the official client, wandb 0.31: those that it sends to a server on loopback, and
//! `core/internal/{runupserter,runfiles,filestream}` of its repository at commit b6e2950.

use serde_json::{Value, json};

use super::WandbRun;
use super::wire::{Refusal, Wire, message};
use crate::url::{Url, escape};

const UPSERT: &str = "\
mutation UpsertBucket ($name: String, $project: String, $entity: String, $displayName: String, $config: JSONString) {
  upsertBucket(input: {name: $name, modelName: $project, entityName: $entity, displayName: $displayName, config: $config}) {
    bucket { id name displayName project { name entity { name } } }
    inserted
  }
}";

const FILES: &str = "\
mutation CreateRunFiles ($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    runID
    uploadHeaders
    files { name uploadUrl }
  }
}";

/// A run at a server: its names there, and the address of its rows.
#[derive(Debug)]
pub(super) struct Place {
    entity: String,
    project: String,
    run: String,
    /// Address that rows are posted to.
    pub(super) stream: Url,
}

/// Addresses that files are put to, and headers for all of them.
pub(super) struct Uploads {
    addresses: Vec<(String, Url)>,
    pub(super) headers: Vec<(String, String)>,
}

impl Uploads {
    pub(super) fn address(&self, file: &str) -> Option<&Url> {
        self.addresses.iter().find(|(name, _)| name == file).map(|(_, address)| address)
    }
}

impl Wire {
    /// Creates or changes a run; `config` is JSON.
    pub(super) fn upsert(&self, id: &str, run: &WandbRun, config: &str) -> Result<Place, Refusal> {
        let answer = self.query(
            UPSERT,
            json!({
                "name": id, "project": run.project, "entity": run.entity, "displayName": run.name, "config": config,
            }),
        )?;
        let bucket = &answer["upsertBucket"]["bucket"];
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(String::from);
        let fault = || Refusal::permanent(format!("{} does not say where the run is", self.server().address));
        let entity = text(&bucket["project"]["entity"]["name"]).ok_or_else(fault)?;
        let project = text(&bucket["project"]["name"]).ok_or_else(fault)?;
        let path = [&entity, &project, id].map(|name| escape(name, false)).join("/");
        Ok(Place { entity, project, run: id.into(), stream: self.address(&format!("files/{path}/file_stream")) })
    }

    /// Asks for addresses that files of a run can be put to.
    pub(super) fn uploads(&self, place: &Place, files: &[String]) -> Result<Uploads, Refusal> {
        let Place { entity, project, run, .. } = place;
        let variables = json!({ "entity": entity, "project": project, "run": run, "files": files });
        let answer = self.query(FILES, variables)?;
        let (answer, none) = (&answer["createRunFiles"], vec![]);
        let list = |value: &'static str| answer[value].as_array().unwrap_or(&none);
        let header = |header: &Value| {
            let (name, value) = header.as_str()?.split_once(':')?;
            Some((name.trim().into(), value.trim().into()))
        };
        let address = |file: &Value| {
            let address = self.server().address.join(file["uploadUrl"].as_str()?).ok()?;
            Some((file["name"].as_str()?.into(), address))
        };
        Ok(Uploads {
            headers: list("uploadHeaders").iter().filter_map(header).collect(),
            addresses: list("files").iter().filter_map(address).collect(),
        })
    }

    fn query(&self, query: &str, variables: Value) -> Result<Value, Refusal> {
        let address = self.address("graphql");
        let answer = self.post(&address, &json!({ "query": query, "variables": variables }))?;
        if answer["errors"].as_array().is_some_and(|errors| !errors.is_empty()) {
            let said = self.quote(&message(&answer.to_string()));
            return Err(Refusal::permanent(format!("{address} refuses: {said}")));
        }
        Ok(answer["data"].clone())
    }
}
