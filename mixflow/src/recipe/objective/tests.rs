use mixflow_schedules::{Prediction, Schedule, TimestepSampler};

use super::super::Recipe;

/// Near data the squared velocity of the VP path is `beta_min / (4 (1 − t))`, whose mean over uniform times is infinite.
#[test]
fn velocities_without_bound_are_refused() {
    let read = |more: &[&str]| {
        let set: Vec<String> =
            ["objective.schedule={\"kind\":\"vp\"}"].iter().chain(more).map(|change| (*change).into()).collect();
        Recipe::read("digits", &set).map_err(|error| error.to_string())
    };
    let uniform = "objective.timesteps={\"kind\":\"uniform\"}";
    for law in [uniform, "objective.timesteps={\"kind\":\"beta\",\"alpha\":2,\"beta\":1}"] {
        for more in [&["post_training=null"][..], &[]] {
            let error = read(&[&[law][..], more].concat()).unwrap_err();
            assert!(error.contains("objective.schedule has no bound near t = 1"), "{error}");
            // As it says.
            let (_, told) = error.split_once("there by ").unwrap();
            let told = format!("objective.timesteps={}", told.split_once(" in ").unwrap().0);
            let recipe = read(&[&[told.as_str()][..], more].concat()).unwrap();
            let end = recipe.objective.timesteps.timestep([1.0, 0.5]).t;
            let [data, noise] = Prediction::Velocity.coordinates(&recipe.objective.schedule.at(end));
            assert!(((data * data + noise * noise) / 2500.0 - 1.0).abs() < 0.01, "{data}, {noise}");
        }
    }
    // Few are near data, and noise is the same at all times.
    let normal = "objective.timesteps={\"kind\":\"logit-normal\",\"mean\":0,\"std\":1}";
    for fine in [&[normal][..], &[uniform, "objective.prediction=noise", "sampling.grid.end=0.999"]] {
        assert!(read(fine).is_ok(), "{fine:?}: {:?}", read(fine));
    }
}

/// On the linear path the weight of noise predictions is `1/t²`: of ten thousand uniform times the least is one of 10⁻⁴, which would
/// have 10⁸ where a half has 4.
#[test]
fn a_weight_without_bound_is_refused() {
    let read = |more: &[&str]| {
        let noise = ["objective.prediction=noise", "sampling.grid.start=0.001", "post_training=null"];
        let set: Vec<String> = noise.iter().chain(more).map(|change| (*change).into()).collect();
        Recipe::read("digits", &set).map_err(|error| error.to_string())
    };
    let uniform = "objective.timesteps={\"kind\":\"uniform\"}";
    let weighted = "objective.weighting=velocity";
    let error = read(&[uniform, weighted]).unwrap_err();
    assert!(error.contains("objective.weighting has no bound near t = 0"), "{error}");
    // As it says.
    let (_, told) = error.split_once("there by ").unwrap();
    let told = format!("objective.timesteps={}", told.split_once(" in ").unwrap().0);
    for fine in [
        &[uniform][..],
        &[&told, weighted],
        &["objective.timesteps={\"kind\":\"logit-normal\",\"mean\":0,\"std\":1}", weighted],
    ] {
        assert!(read(fine).is_ok(), "{fine:?}: {:?}", read(fine));
    }
    let data = ["objective.prediction=data", "sampling.grid.start=0", uniform, weighted];
    assert!(read(&data).unwrap_err().contains("no bound near t = 1"));
    assert!(read(&[&data[..], &["objective.floor=0.05"]].concat()).is_ok());
}
