/* A transform of pgshovel in C: replaces the values of some columns by a keyed hash,
 * or by NULL, before they reach the target.
 *
 * Equal values have equal hashes, so joins and counts go on working. */
#include "digest.h"
#include "gen/transform_plugin.h"
#include "settings.h"

#include <stdlib.h>
#include <string.h>

typedef transform_plugin_string_t string;
typedef pgshovel_plugin_types_error_t failure;
typedef pgshovel_plugin_types_relation_t relation;
typedef pgshovel_plugin_types_row_t row;
typedef pgshovel_plugin_types_value_t value;

struct exports_pgshovel_plugin_transform_session_t {
    struct settings settings;
    struct keyed_digest key;
};

/* Which columns of one relation are redacted, and how. */
struct plan {
    const relation *relation;
    size_t rule_count;
    struct {
        size_t column;
        enum action action;
    } rules[RULES_MAX];
};

/* Memory that runs out is a trap: the host makes a new instance and tries again. */
static void *allocate(size_t size) {
    void *memory = malloc(size > 0 ? size : 1);
    if (!memory)
        abort();
    return memory;
}

/* False, with an error that says what is wrong with the configuration. */
static bool refuse(failure *error, const char *before, string name, const char *after) {
    size_t first = strlen(before), second = strlen(after);
    char *text = allocate(first + name.len + second);
    memcpy(text, before, first);
    if (name.len > 0)
        memcpy(text + first, name.ptr, name.len);
    memcpy(text + first + name.len, after, second);
    error->tag = PGSHOVEL_PLUGIN_TYPES_ERROR_CONFIGURE;
    error->val.configure = (string){(uint8_t *)text, first + name.len + second};
    return false;
}

static string none(void) { return (string){(uint8_t *)"", 0}; }

bool exports_pgshovel_plugin_transform_static_session_open(exports_pgshovel_plugin_transform_context_t *context, string *configuration,
                                                        exports_pgshovel_plugin_transform_own_session_t *session, failure *error) {
    char problem[PROBLEM_BYTES];
    struct exports_pgshovel_plugin_transform_session_t *opened = allocate(sizeof *opened);
    bool parsed = settings_parse(&opened->settings, (const char *)configuration->ptr, configuration->len, problem);
    exports_pgshovel_plugin_transform_context_free(context);
    transform_plugin_string_free(configuration);
    if (!parsed) {
        free(opened);
        return refuse(error, problem, none(), "");
    }
    keyed_digest_prepare(&opened->key, (const uint8_t *)opened->settings.key.bytes, opened->settings.key.length);
    *session = exports_pgshovel_plugin_transform_session_new(opened);
    return true;
}

void exports_pgshovel_plugin_transform_session_destructor(struct exports_pgshovel_plugin_transform_session_t *session) { free(session); }

/* Whether `text` begins with `part` and a dot; then it is moved behind them. */
static bool consume(string *text, string part) {
    if (text->len <= part.len || memcmp(text->ptr, part.ptr, part.len) != 0 || text->ptr[part.len] != '.')
        return false;
    text->ptr += part.len + 1;
    text->len -= part.len + 1;
    return true;
}

static bool starts_with(string text, const char *word) { return text.len >= strlen(word) && memcmp(text.ptr, word, strlen(word)) == 0; }

static bool holds_text(string type) { return starts_with(type, "text") || starts_with(type, "character varying") || starts_with(type, "citext"); }

static bool is_identity(const relation *relation, size_t column) {
    for (size_t i = 0; i < relation->identity.len; i++)
        if (relation->identity.ptr[i] == column)
            return true;
    return false;
}

/* Adds what one rule means for the relation, if it is about it. */
static bool plan_rule(struct plan *plan, const struct rule *rule, failure *error) {
    const relation *relation = plan->relation;
    string whole = {(uint8_t *)rule->column.bytes, rule->column.length}, name = whole;
    if (!consume(&name, relation->schema) || !consume(&name, relation->table))
        return true;
    for (size_t i = 0; i < relation->columns.len; i++) {
        string column = relation->columns.ptr[i].name;
        if (column.len != name.len || memcmp(column.ptr, name.ptr, name.len) != 0)
            continue;
        if (rule->action == ACTION_NULL && is_identity(relation, i))
            return refuse(error, "redact cannot set ", whole, " to null: it identifies the row; use `hash`, or leave it out");
        if (rule->action == ACTION_HASH && !holds_text(relation->columns.ptr[i].type_name))
            return refuse(error, "redact cannot hash ", whole, ": a hash is a text, and its type is none; use `null`");
        plan->rules[plan->rule_count].column = i;
        plan->rules[plan->rule_count++].action = rule->action;
        return true;
    }
    return refuse(error, "redact: ", whole, " is not among the columns of its table: correct the name, or take it out");
}

static bool make_plan(struct plan *plan, const relation *relation, const struct settings *settings, failure *error) {
    plan->relation = relation;
    plan->rule_count = 0;
    for (size_t i = 0; i < settings->rule_count; i++)
        if (!plan_rule(plan, &settings->rules[i], error))
            return false;
    return true;
}

static void hash(value *text, const struct keyed_digest *key) {
    static const char DIGITS[] = "0123456789abcdef";
    uint8_t digest[DIGEST_BYTES];
    char *hex = allocate(2 * DIGEST_BYTES);
    keyed_digest(key, text->val.text.ptr, text->val.text.len, digest);
    for (int i = 0; i < DIGEST_BYTES; i++) {
        hex[2 * i] = DIGITS[digest[i] >> 4];
        hex[2 * i + 1] = DIGITS[digest[i] & 15];
    }
    transform_plugin_string_free(&text->val.text);
    text->val.text = (string){(uint8_t *)hex, 2 * DIGEST_BYTES};
}

static void redact(row *row, const struct plan *plan, const struct keyed_digest *key) {
    for (size_t i = 0; i < plan->rule_count; i++) {
        if (plan->rules[i].column >= row->len)
            continue;
        value *value = &row->ptr[plan->rules[i].column];
        if (plan->rules[i].action == ACTION_HASH && value->tag == PGSHOVEL_PLUGIN_TYPES_VALUE_TEXT) {
            hash(value, key);
        } else {
            pgshovel_plugin_types_value_free(value);
            value->tag = PGSHOVEL_PLUGIN_TYPES_VALUE_NULL;
        }
    }
}

static void redact_change(pgshovel_plugin_types_change_t *change, const struct plan *plan, const struct keyed_digest *key) {
    switch (change->tag) {
    case PGSHOVEL_PLUGIN_TYPES_CHANGE_INSERT:
        redact(&change->val.insert, plan, key);
        break;
    case PGSHOVEL_PLUGIN_TYPES_CHANGE_UPDATE:
        redact(&change->val.update.before, plan, key);
        redact(&change->val.update.after, plan, key);
        break;
    case PGSHOVEL_PLUGIN_TYPES_CHANGE_DELETE:
        redact(&change->val.delete_, plan, key);
        break;
    default:
        break;
    }
}

static bool plan_all(struct plan *plans, const exports_pgshovel_plugin_transform_list_relation_t *relations, const struct settings *settings,
                     failure *error) {
    for (size_t i = 0; i < relations->len; i++)
        if (!make_plan(&plans[i], &relations->ptr[i], settings, error))
            return false;
    return true;
}

bool exports_pgshovel_plugin_transform_method_session_transform(exports_pgshovel_plugin_transform_borrow_session_t session,
                                                             exports_pgshovel_plugin_transform_list_relation_t *relations,
                                                             exports_pgshovel_plugin_transform_list_mutation_t *mutations,
                                                             exports_pgshovel_plugin_transform_output_t *output, failure *error) {
    struct plan *plans = allocate(relations->len * sizeof *plans);
    bool planned = plan_all(plans, relations, &session->settings, error);
    for (size_t i = 0; planned && i < mutations->len; i++)
        for (size_t j = 0; j < relations->len; j++)
            if (relations->ptr[j].id == mutations->ptr[i].relation)
                redact_change(&mutations->ptr[i].change, &plans[j], &session->key);
    free(plans);
    if (planned) {
        /* What came in goes out: nothing is copied. */
        output->relations = *relations;
        output->mutations = *mutations;
    } else {
        exports_pgshovel_plugin_transform_list_relation_free(relations);
        exports_pgshovel_plugin_transform_list_mutation_free(mutations);
    }
    return planned;
}
