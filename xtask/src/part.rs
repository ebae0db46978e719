//! A part of many images, for `--shard`.

use std::path::Path;
use std::process::ExitCode;

use mixflow::check_memory;
use mixflow::evaluation::Visited;
use mixflow::files::{PartValues, Parts, PartsConfig, WeightsFile};
use serde_json::json;

use crate::kind::Kind;
use crate::progress::Progress;
use crate::terminal::{Result, print};
use crate::trained::Trained;

/// Makes a part of one image a label, unless it is in the folder.
pub(crate) fn draw<N: Kind>(
    trained: &Trained<N>,
    labels: &[usize],
    shard: mixflow::Shard,
    folder: &Path,
    values: PartValues,
) -> Result<ExitCode> {
    if folder.extension().is_some() && !folder.is_dir() {
        let folder = folder.display();
        return Err(format!("{folder}: expected a folder for the parts, each an .npz, found the name of a file").into());
    }
    let parts = Parts::begin(folder, config(trained, labels, shard.of(), values)?)?;
    let (images, file, batch) = (parts.images_of(shard), parts.file(shard), parts.config().batch);
    let count = images.end.saturating_sub(images.start);
    if count == 0 {
        let all = labels.len();
        print(format_args!(
            "part {shard} has no images: all {all} are in fewer batches than parts (sampling.batch={batch})"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    if parts.has(shard) {
        print(format_args!("part {shard} is there: {}", file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let shape = trained.image_shape()?.map(|side| side as u64);
    let batch = count.min(batch);
    check_memory(|| format!("images at a time (sampling.batch={batch})"), &[&shape[..], &[batch, 4]].concat())?;
    let mut progress = Progress::new();
    progress.begin(&format!("sampling part {shard}"), Some(count));
    let visit = &mut |state: Visited<'_>| progress.counted(state.done, "image");
    trained.pipeline.generator().draw_part(&parts, shard, labels, visit)?;
    progress.end();
    let (first, last, all) = (images.start, images.end - 1, labels.len());
    print(format_args!("images {first} to {last} of {all}, part {shard}, in {}", file.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The parts in a folder, which are of one image a label by this network.
pub(crate) fn made<N: Kind>(
    trained: &Trained<N>,
    labels: &[usize],
    folder: &Path,
    values: PartValues,
) -> Result<Parts> {
    let none = || format!("--parts {}: expected a folder of parts, made with --shard; found none", folder.display());
    let parts = if folder.is_dir() { Parts::open(folder)? } else { None }.ok_or_else(none)?;
    match parts.config().difference(&config(trained, labels, parts.config().parts, values)?) {
        // What is missing is told before anything is measured.
        None => parts.files().map(|_| parts).map_err(Into::into),
        Some(difference) => Err(format!("--parts {}: they were made with {difference}", folder.display()).into()),
    }
}

fn config<N: Kind>(trained: &Trained<N>, labels: &[usize], parts: usize, values: PartValues) -> Result<PartsConfig> {
    let mut weights = vec![WeightsFile::read(&trained.weights)?];
    weights.extend(trained.autoencoder_weights()?);
    let recipe = &trained.pipeline.recipe;
    let mut settings =
        json!({ "network": recipe.network, "autoencoder": recipe.autoencoder, "names": trained.class_names()? });
    if !trained.pipeline.adapters().is_empty() {
        settings["adapters"] = json!(trained.pipeline.adapters());
    }
    Ok(trained.pipeline.generator().parts_config(labels, parts, values, &weights, &settings))
}
