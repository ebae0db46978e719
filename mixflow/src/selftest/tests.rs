use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use mixflow_backbones::{ClassLabels, Network, NetworkConfig};
use mixflow_schedules::Linear;

use super::*;
use crate::objective::{Batch, FlowMatching};

fn found(test: impl FnOnce(&mut Selftest<'_>)) -> Vec<Finding> {
    let mut findings = vec![];
    let mut report = |finding| findings.push(finding);
    test(&mut Selftest::new(&Device::flex(), &mut report));
    findings
}

#[test]
fn the_cpu_agrees_with_itself_on_every_network() {
    let findings = found(|test| test.networks());
    let kinds = serde_json::from_str::<NetworkConfig>(r#"{"kind":"none of these"}"#).unwrap_err().to_string();
    let kinds = kinds.split_once("expected one of ").unwrap().1.matches('`').count() / 2;
    assert_eq!(findings.iter().filter(|finding| finding.what == bound::STEPS.what).count(), kinds);
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Agrees, "{finding:?}");
        let expected = match finding.what {
            // More than `f32` can err, or it was not computed so.
            what if what.contains("bf16") => finding.difference > 2e-4,
            // Gradients of a block's condition may be added in another order.
            what if what == bound::RECOMPUTED.what => finding.difference < 1e-6,
            _ => finding.difference == 0.0,
        };
        assert!(expected, "{finding:?}");
    }
    // Device: 2; a network: 7; the autoencoder: 1.
    assert_eq!(findings.len(), 2 + 7 * kinds + 1);
}

#[test]
fn the_cpu_agrees_with_itself_on_every_operation() {
    let findings = found(|test| test.operations());
    let of = |what| findings.iter().find(|finding| finding.what == what).expect("it was compared");
    for what in [bound::OPERATIONS.what, bound::ADAMW.what] {
        assert_eq!((of(what).verdict, of(what).difference), (Verdict::Agrees, 0.0));
    }
    let bf16 = of(bound::BF16_OPERATIONS.what);
    assert!(bf16.verdict == Verdict::Agrees && bf16.difference > 2e-4, "{bf16:?}");
}

/// What computes something else on a device.
#[derive(Module, Debug)]
struct Faulty {
    inside: Network,
    #[module(skip)]
    factor: f64,
}

impl Backbone for Faulty {
    type Condition = ClassLabels;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, condition: ClassLabels) -> Tensor<4> {
        assert!(self.factor > 0.0, "out of memory");
        self.inside.forward(x, time, condition) * self.factor
    }
}

/// A network whose output the device multiplies with `factor`.
fn faulty(factor: f64) -> Vec<Finding> {
    let sit = networks::sit();
    let network = Faulty { inside: sit.network, factor: 1.0 };
    let batch = |device: &Device| {
        let labels = ClassLabels::new(&[1, 2], 10, device);
        Batch::new(subject::noise([2, 4, 8, 8], 0, device), labels, 0)
    };
    let subject = Subject::new("one of mine", network, FlowMatching::new(Linear), batch);
    let mut findings = found(|test| test.network_as(&subject, || Faulty { factor, ..subject.network.clone() }));
    findings.drain(..2);
    findings
}

#[test]
fn a_network_that_computes_something_else_fails_by_its_name() {
    let findings = faulty(1.001);
    assert_eq!(findings.len(), 3, "it knows neither bf16 nor recomputation: {findings:?}");
    for finding in &findings {
        assert_eq!((finding.subject.as_str(), finding.verdict), ("one of mine", Verdict::Fails), "{finding:?}");
        assert!((2e-4..2e-2).contains(&finding.difference), "{finding:?}");
    }
    assert!((findings[0].difference / 0.001 - 1.0).abs() < 1e-3, "{findings:?}");
    assert!(faulty(1.0).iter().all(|finding| finding.difference == 0.0));
}

#[test]
fn a_device_that_panics_is_a_finding() {
    for finding in faulty(-1.0) {
        assert_eq!((finding.verdict, finding.place.as_str()), (Verdict::Fails, "panicked: out of memory"));
    }
}

#[test]
fn eleven_bits_are_told_apart_where_products_have_them() {
    for (difference, tf32, verdict) in [
        (1e-6, false, Verdict::Agrees),
        (1e-6, true, Verdict::Agrees),
        (1e-3, true, Verdict::Tf32),
        (1e-3, false, Verdict::Fails),
        (1e-1, true, Verdict::Fails),
        (f64::INFINITY, true, Verdict::Fails),
    ] {
        assert_eq!(bound::OUTPUT.verdict(difference, tf32), verdict, "{difference:e} {tf32}");
    }
    // A product of numbers that are rounded as TF32 rounds them.
    let round = |tensor: Tensor<2>| {
        let cut = |v: f32| f32::from_bits((v.to_bits() + 0x1000) & !0x1fff);
        let values: Vec<f32> = tensor.to_data().iter::<f32>().map(cut).collect();
        Tensor::<2>::from_data(TensorData::new(values, tensor.dims()), &Device::flex())
    };
    let [a, b] = [0, 1].map(|first| subject::noise([1, 1, 128, 128], first, &Device::flex()).reshape([128, 128]));
    let product = |a: Tensor<2>, b: Tensor<2>| [("product".into(), a.matmul(b).into_data())].into();
    let (difference, _) = apart(&product(a.clone(), b.clone()), &product(round(a), round(b)));
    assert_eq!(bound::PRODUCTS.verdict(difference, true), Verdict::Tf32, "{difference:e}");
}

#[test]
fn the_largest_difference_is_told_by_its_tensor() {
    let tensors = |a: [f64; 2], b: [f64; 2]| -> Tensors { [("a".into(), a.into()), ("b".into(), b.into())].into() };
    let expected = tensors([3.0, 4.0], [0.0, 0.01]);
    assert_eq!(apart(&expected, &expected).0, 0.0);
    let (difference, place) = apart(&expected, &tensors([3.0, 4.5], [0.0, 0.01]));
    assert_eq!((difference, place.as_str()), (0.1, "a"));
    // A small tensor counts by the size of all: √(25 / 4) a value.
    let (difference, place) = apart(&expected, &tensors([3.0, 4.0], [0.0, -0.01]));
    assert!((difference / (0.02 / 12.5f64.sqrt()) - 1.0).abs() < 1e-5 && place == "b", "{difference} {place}");
    for (found, words) in [
        (tensors([3.0, f64::NAN], [0.0, 0.01]), "a"),
        ([("a".into(), TensorData::from([3.0, 4.0]))].into(), "b, which one of both lacks"),
        ([("a".into(), TensorData::from([3.0])), ("b".into(), TensorData::from([0.0, 0.01]))].into(), "a"),
    ] {
        assert_eq!(apart(&expected, &found), (f64::INFINITY, words.into()));
    }
    let zeros = tensors([0.0; 2], [0.0; 2]);
    assert_eq!(apart(&zeros, &zeros).0, f64::INFINITY, "nothing was compared");
}

#[test]
fn the_short_form_compares_nothing_on_the_cpu() {
    assert!(brief(&Device::flex()).is_empty());
    assert!(brief(&Device::flex().autodiff()).is_empty());
}
