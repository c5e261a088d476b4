//! What fields of strangers say of caching and codings: decisions that do not contradict each other, whatever they hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pillion_filters::fuzzing::{headers, judge_cache_fields, negotiate};

fuzz_target!(|data: &[u8]| {
    let [status, seconds, rest @ ..] = data else { return };
    let cut = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
    let (request, response) = rest.split_at(cut);
    let (request, response) = (headers(request), headers(response.get(1..).unwrap_or_default()));
    judge_cache_fields(&request, &response, 200 + u16::from(*status), u32::from(*seconds) * 1000);
    negotiate(&request);
});
