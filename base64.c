/* SPDX-License-Identifier: ISC */

#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(char *text, const void *data, size_t length)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < length; i += 3) {
		size_t left = length - i;
		uint32_t group = (uint32_t)bytes[i] << 16;

		if (left > 1)
			group |= (uint32_t)bytes[i + 1] << 8;
		if (left > 2)
			group |= bytes[i + 2];
		*text++ = alphabet[group >> 18];
		*text++ = alphabet[group >> 12 & 63];
		*text++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
		*text++ = left > 2 ? alphabet[group & 63] : '=';
	}
	*text = '\0';
}

/* What a digit of base64 stands for, or -1. */
static int digit_value(char digit)
{
	const char *at = memchr(alphabet, digit, 64);

	return at ? (int)(at - alphabet) : -1;
}

long base64_decode(void *data, const char *text, size_t length)
{
	unsigned char *out = data;
	size_t padding = 0;

	if (length % 4 != 0)
		return -1;
	while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
		padding++;

	for (size_t i = 0; i < length; i += 4) {
		size_t digits = i + 4 < length ? 4 : 4 - padding;
		uint32_t group = 0;

		for (size_t j = 0; j < 4; j++) {
			int value = j < digits ? digit_value(text[i + j]) : 0;

			if (value == -1)
				return -1;
			group = group << 6 | (uint32_t)value;
		}
		/* RFC 4648 3.5: stray bits would let two texts stand for the same bytes. */
		if ((digits == 3 && group & 0xff) || (digits == 2 && group & 0xffff))
			return -1;
		for (size_t j = 1; j < digits; j++, group <<= 8)
			*out++ = (unsigned char)(group >> 16);
	}
	return (long)(out - (unsigned char *)data);
}
