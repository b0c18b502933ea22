/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What holds the layouts in place, in C and in C++. */
#ifndef XF_ABI_ASSERT_H
#define XF_ABI_ASSERT_H 1

#ifdef __cplusplus
#define XF_ASSERT(EXPR) static_assert(EXPR, #EXPR)
#else
#define XF_ASSERT(EXPR) _Static_assert(EXPR, #EXPR)
#endif

#endif /* assert.h */
