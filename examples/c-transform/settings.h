/* The section's `configuration`:
 *
 *     {"key": "secret", "columns": {"public.people.email": "hash", "public.people.phone": "null"}}
 */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

/* Bounds, so that settings need no memory of their own to fail for. */
enum { RULES_MAX = 256, TEXT_BYTES_MAX = 256, PROBLEM_BYTES = 512 };

enum action { ACTION_NULL, ACTION_HASH };

struct text {
    size_t length;
    char bytes[TEXT_BYTES_MAX];
};

struct rule {
    /* schema.table.column, without quotes. */
    struct text column;
    enum action action;
};

struct settings {
    struct text key;
    size_t rule_count;
    struct rule rules[RULES_MAX];
};

/* False: `problem` says what is wrong, for the operator. */
bool settings_parse(struct settings *settings, const char *json, size_t length, char problem[PROBLEM_BYTES]);

#endif
