/* SPDX-License-Identifier: Apache-2.0 */
/* Short texts in a buffer of fixed size; what does not fit is cut off. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>

struct text {
	size_t length;
	char bytes[256];
};

static inline size_t length_of(const char *string)
{
	size_t length = 0;

	while (string[length])
		length++;
	return length;
}

static inline void add_bytes(struct text *text, const char *bytes, size_t count)
{
	for (size_t i = 0; i < count && text->length < sizeof(text->bytes) - 1; i++)
		text->bytes[text->length++] = bytes[i];
	text->bytes[text->length] = '\0';
}

static inline void add(struct text *text, const char *string)
{
	add_bytes(text, string, length_of(string));
}

static inline void add_number(struct text *text, uint64_t number)
{
	char digits[20];
	size_t first = sizeof(digits);

	do
		digits[--first] = (char)('0' + number % 10);
	while (number /= 10);
	add_bytes(text, digits + first, sizeof(digits) - first);
}

#endif
