/* SPDX-License-Identifier: ISC */

/* Base64 as in RFC 4648 section 4: the alphabet with + and /, padded. */

#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>

/* What base64_encode writes for length bytes, its terminating NUL included. */
#define BASE64_SIZE(length) (((length) + 2) / 3 * 4 + 1)

/* Writes the base64 of length bytes, and a NUL, to text: BASE64_SIZE(length) bytes in all. */
void base64_encode(char *text, const void *data, size_t length);

/*
 * Decodes length characters of text into data, which takes length / 4 * 3 bytes at most.
 * Returns how many bytes it wrote, or -1 when text is not base64: a character outside the
 * alphabet, white space included, a length or padding that is off, bits left over that are not zero.
 */
long base64_decode(void *data, const char *text, size_t length);

#endif
