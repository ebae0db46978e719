//! A recipe, and what it will cost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mixflow::plan::{Machine, Plan};
use mixflow::recipe::Recipe;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(recipe) = Recipe::from_value(value) {
        // A recipe is stored with each checkpoint and read back.
        let again = Recipe::from_value(recipe.to_value()).expect("what was checked is valid");
        assert_eq!(again.to_value(), recipe.to_value());
        let machine = Machine::named("h100").expect("a name that is known");
        let Ok(plan) = Plan::new(&recipe, machine) else { return };
        assert!(plan.to_string().starts_with("network"));
    }
});
