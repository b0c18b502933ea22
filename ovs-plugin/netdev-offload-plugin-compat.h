/*
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

#ifndef NETDEV_OFFLOAD_PLUGIN_COMPAT_H
#define NETDEV_OFFLOAD_PLUGIN_COMPAT_H 1

/* What differs between the releases of OVS that this glue is compiled into.
 * OVS_RELEASE, 305 for 3.5, is set by the patches in lib/automake.mk. */

#include <stdbool.h>

#include "flow.h"
#include "odp-execute.h"
#include "odp-util.h"

#if OVS_RELEASE < 305
#define compat_odp_flow_format(KEY, KEY_LEN, MASK, MASK_LEN, NAMES, DS)     \
    odp_flow_format(KEY, KEY_LEN, MASK, MASK_LEN, NAMES, DS, false)
#else
#define compat_odp_flow_format(KEY, KEY_LEN, MASK, MASK_LEN, NAMES, DS)     \
    odp_flow_format(KEY, KEY_LEN, MASK, MASK_LEN, NAMES, DS, false, false)
#endif

#if OVS_RELEASE < 303
#define compat_flow_compose(PACKET, FLOW, L7, L7_LEN)   \
    flow_compose(PACKET, FLOW, L7, L7_LEN)
#else
#define compat_flow_compose(PACKET, FLOW, L7, L7_LEN)   \
    flow_compose(PACKET, FLOW, L7, L7_LEN, false)
#endif

#if OVS_RELEASE < 400
#define compat_odp_execute_init() odp_execute_init()
#else
#define compat_odp_execute_init()    /* There is one implementation only. */
#endif

/* Does the userspace datapath find "don't fragment" in what comes out of a
 * tunnel? */
#define COMPAT_FINDS_DONT_FRAGMENT (OVS_RELEASE >= 307)

#endif /* netdev-offload-plugin-compat.h */
