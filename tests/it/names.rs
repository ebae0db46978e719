//! Names and shapes of all published networks for class labels.

use burn::tensor::Device;
use mixflow_backbones::NetworkConfig;
use mixflow_backbones::dit_dh::DitDhConfig;
use mixflow_backbones::repa::RepaConfig;
use mixflow_backbones::sit::SitConfig;
use mixflow_tests::assert_official_names;

#[test]
fn names_and_shapes_are_the_official_ones() {
    for (config, list) in [
        (NetworkConfig::Sit(SitConfig::extra_large(2)), "sit_xl_2_256_learn_sigma"),
        (NetworkConfig::Dit(SitConfig::extra_large(2)), "dit_xl2_256"),
        (NetworkConfig::Repa(RepaConfig::extra_large(2)), "repa_sit_xl_2_dinov2b"),
        (NetworkConfig::DitDh(DitDhConfig::extra_large()), "ditdh_xl_256"),
    ] {
        let network = config.init(0, &Device::default());
        assert_official_names(&network, network.official_key(), list);
    }
}
