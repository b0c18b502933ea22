/* SPDX-License-Identifier: GPL-2.0-only */
/* The hook that a program is compiled for.
 *
 * What parses, looks up and acts has a 'ctx', of which it knows the type, xf_ctx, and
 * no more; all that it asks of it, or does to the packet in it, is a function here.  A
 * program includes its own hook before anything else:
 *
 *   xdp.h    the driver, before there is an sk_buff
 *   skb.h    TC's ingress, where there is one
 */
#ifndef XF_HOOK_DROP
#error "a program includes its hook first"
#endif
