/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What redirect_errors.bpf.c counts, for user space to read. */
#ifndef XF_ABI_REDIRECT_ERRORS_H
#define XF_ABI_REDIRECT_ERRORS_H 1

#include <linux/types.h>

/* The last is for all errors from there on, which have no name in user space;
 * 0: the kernel says that frames were lost, and no more. */
#define XR_N_ERRORS 135

/* Where the frames should have gone: to a port, or to OVS's AF_XDP sockets. */
enum xr_target { XR_TO_PORT, XR_TO_OVS, XR_N_TARGETS };

/* Frames that were lost at a port, by positive errno value. */
struct xr_losses {
    __u64 frames[XR_N_TARGETS][XR_N_ERRORS];
};

#endif /* redirect_errors.h */
