/* settings.c - libconfig's settings as JSON. */
#include "settings.h"

#include <jansson.h>
#include <libconfig.h>
#include <stdlib.h>

static json_t *value_of(const config_setting_t *s);

static json_t *group_of(const config_setting_t *s)
{
    json_t *o = json_object();
    for (int k = 0; k < config_setting_length(s); k++) {
        config_setting_t *at = config_setting_get_elem(s, (unsigned)k);
        json_object_set_new(o, config_setting_name(at), value_of(at));
    }
    return o;
}

static json_t *list_of(const config_setting_t *s)
{
    json_t *a = json_array();
    for (int k = 0; k < config_setting_length(s); k++)
        json_array_append_new(a, value_of(config_setting_get_elem(s, (unsigned)k)));
    return a;
}

static json_t *value_of(const config_setting_t *s)
{
    json_t *text;
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_GROUP:
        return group_of(s);
    case CONFIG_TYPE_LIST:
    case CONFIG_TYPE_ARRAY:
        return list_of(s);
    case CONFIG_TYPE_INT:
        return json_integer(config_setting_get_int(s));
    case CONFIG_TYPE_INT64:
        return json_integer(config_setting_get_int64(s));
    case CONFIG_TYPE_FLOAT:
        return json_real(config_setting_get_float(s));
    case CONFIG_TYPE_BOOL:
        return json_boolean(config_setting_get_bool(s));
    default: /* a path need not be UTF-8, but JSON must be */
        text = json_string(config_setting_get_string(s));
        return text ? text : json_null();
    }
}

static int put_groups(const config_t *c, message *out, td_error *error)
{
    const config_setting_t *root = config_root_setting(c);
    for (int k = 0; k < config_setting_length(root); k++) {
        config_setting_t *at = config_setting_get_elem(root, (unsigned)k);
        json_t           *value = value_of(at);
        char             *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        message           item = { 0 };
        json_decref(value);
        if (!text)
            return td_fail(error, TD_ENOMEM, "out of memory for the config of a run");
        message_text(&item, 1, config_setting_name(at));
        message_text(&item, 16, text);
        message_message(out, 1, &item);
        free(text);
    }
    return 0;
}

int settings_read(const char *path, message *out, td_error *error)
{
    config_t c;
    int      code;
    config_init(&c);
    if (config_read_file(&c, path))
        code = put_groups(&c, out, error);
    else
        code = td_fail(error, TD_EIO, "cannot read the run's config '%s' for wandb: %s, line %d",
                       path, config_error_text(&c), config_error_line(&c));
    config_destroy(&c);
    return code;
}
