/* template.c - templates of tasks: their results, and their messages for missing fields. */
#include "evaluate/template.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static json_t *item(const char *text)
{
    json_error_t why;
    json_t      *j = json_loads(text, 0, &why);
    cr_assert(j, "%s: %s", text, why.text);
    return j;
}

static const char doc[] =
    "{\"q\": \"Who?\", \"n\": 3, \"x\": 1.0, \"yes\": true, \"no\": false, \"none\": null, "
    "\"empty\": \"\","
    " \"a.b\": \"dotted\", \"in\": {\"er\": {\"most\": \"deep\"}}, \"nothing\": [],"
    " \"choices\": [{\"text\": \"red\", \"label\": \"A\"}, {\"text\": \"blue\", \"label\": \"B\"}],"
    " \"list\": [\"x\", \"y\", \"z\"]}";

static void expect(const char *text, const char *wanted)
{
    td_error     e = { 0 };
    td_text      out = { 0 };
    json_t      *j = item(doc);
    td_template *t = td_template_parse(text, &e);
    cr_assert(t, "%s: %s", text, e.text);
    cr_expect_eq(td_template_render(t, j, &out, &e), 0, "%s: %s", text, e.text);
    cr_expect_str_eq(td_text_get(&out), wanted, "%s gives '%s'", text, td_text_get(&out));
    td_text_free(&out);
    td_template_free(t);
    json_decref(j);
}

Test(template, fields)
{
    expect("Q: {{q}}\nA:", "Q: Who?\nA:");
    expect("{{ q }}{{n}} {{x}} {{yes}} {{no}} [{{none}}{{empty}}]", "Who?3 1 true false []");
    expect("{{in.er.most}} {{choices.1.text}} {{list.2}} {{a.b}}", "deep blue z dotted");
    expect("no fields, { one brace } and }} alone", "no fields, { one brace } and }} alone");
    expect("", "");
}

Test(template, sections)
{
    expect("{{#list}}{{^@first}}, {{/@first}}{{.}}{{/list}}", "x, y, z");
    expect("{{#list}}{{#@first}}<{{/@first}}{{@letter}}{{@number}}{{@index}} {{/list}}",
           "<A10 B21 C32 ");
    expect("{{#choices}}{{label}}. {{text}} ({{q}})\n{{/choices}}",
           "A. red (Who?)\nB. blue (Who?)\n");
    expect("{{#yes}}1{{/yes}}{{#no}}2{{/no}}{{#none}}3{{/none}}{{#empty}}4{{/empty}}"
           "{{#nothing}}5{{/nothing}}{{#missing}}6{{/missing}}{{#q}}7{{/q}}",
           "17");
    expect("{{^yes}}1{{/yes}}{{^no}}2{{/no}}{{^missing}}3{{/missing}}{{^nothing}}4{{/nothing}}",
           "234");
    expect("{{#in}}{{#er}}{{most}}{{q}}{{/er}}{{/in}}", "deepWho?");
    /* a section inside one of the same name ends the inner one first */
    expect("{{#list}}{{#list}}{{.}}{{/list}};{{/list}}", "xyz;xyz;xyz;");
}

Test(template, an_element_of_a_list)
{
    td_error     e = { 0 };
    td_text      out = { 0 };
    json_t      *j = item(doc);
    td_template *t = td_template_parse("({{@letter}}) {{text}} {{q}}", &e);
    cr_assert_eq(td_template_render_element(t, j, json_object_get(j, "choices"), 1, &out, &e), 0);
    cr_expect_str_eq(td_text_get(&out), "(B) blue Who?");
    td_text_free(&out);
    td_template_free(t);
    json_decref(j);
}

static void refused(const char *text, const char *says)
{
    td_error     e = { 0 };
    td_template *t = td_template_parse(text, &e);
    cr_expect(!t && e.code == TD_ECONFIG, "'%s' is accepted", text);
    cr_expect(strstr(e.text, says), "'%s' is not in: %s", says, e.text);
    td_template_free(t);
}

Test(template, parse_errors)
{
    refused("a {{q", "'{{' without '}}'");
    refused("{{}}", "without a field's name");
    refused("{{# }}x", "without a field's name");
    refused("{{#q}}x", "begins section 'q' but does not end it: add '{{/q}}'");
    refused("x{{/q}}", "'{{/q}}' that was not begun");
    refused("{{#q}}{{#n}}{{/q}}{{/n}}", "ends section 'n' with '{{/q}}'");
    refused("{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}{{#a}}"
            "{{#a}}{{#a}}{{#a}}",
            "more than 16 deep");
}

static void fails(const char *text, const char *says)
{
    td_error     e = { 0 };
    td_text      out = { 0 };
    json_t      *j = item(doc);
    td_template *t = td_template_parse(text, &e);
    cr_assert(t, "%s", e.text);
    cr_expect_eq(td_template_render(t, j, &out, &e), TD_EFORMAT, "%s", text);
    cr_expect(strstr(e.text, says), "'%s' is not in: %s", says, e.text);
    td_text_free(&out);
    td_template_free(t);
    json_decref(j);
}

Test(template, missing_fields_of_an_item)
{
    fails("{{question}}", "has no field 'question'; it has: q, n, x, yes");
    fails("{{list.7}}", "no field 'list.7'");
    fails("{{list.-1}}", "no field 'list.-1'");
    fails("{{@letter}}", "no field '@letter'");
    fails("{{list}}", "field 'list' is a list: name what is in it");
    fails("{{in}}", "field 'in' is an object");
    fails("{{#choices}}{{text}}{{colour}}{{/choices}}", "no field 'colour'; it has: q, n");
}
