/* SPDX-License-Identifier: Apache-2.0 */
/* libflowxlate: OVS megaflows executed in XDP.
 *
 * The library implements the operations of struct ovs_offload_ops; read
 * ovs_offload_abi.h for their contracts.  ovs-vswitchd loads it as a plugin
 * (ovs-offload-xdp.so).  Any other program can link with it, call init() with
 * its own services and drive ports and flows in the same way.
 *
 * Needs Linux 6.1 or newer, CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (init()
 * says so if they are missing).
 */
#ifndef FLOWXLATE_H
#define FLOWXLATE_H 1

#include "ovs_offload_abi.h"

#define FLOWXLATE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/* Returns the library's operations.  Valid for the life of the process.
 * Thread-safe. */
FLOWXLATE_API const struct ovs_offload_ops *flowxlate_ops(void);

/* The same under the name that ovs-vswitchd looks for. */
FLOWXLATE_API const struct ovs_offload_ops *ovs_offload_plugin_get(void);

#ifdef __cplusplus
}
#endif

#endif /* flowxlate.h */
