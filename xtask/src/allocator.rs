//! How the system's allocator treats the large buffers of a step.

/// Lets the allocator keep freed buffers for the next step. By default glibc returns large ones to the system, and every
/// step pays for clearing the same pages again. Other allocators are left as they are.
pub(crate) fn keep_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest threshold that every glibc takes, 32 MiB (`DEFAULT_MMAP_THRESHOLD_MAX` on 64 bits).
        const LARGEST_KEPT: i32 = 32 << 20;
        #[allow(unsafe_code, reason = "the allocator's options are set through C")]
        // SAFETY: `mallopt` takes plain numbers and refuses those it does not know.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_KEPT);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
    }
}
