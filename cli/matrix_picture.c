/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The picture is drawn once, as SVG: a panel for each table, cells of one state and row that touch
 * as one rectangle, lines where the namespace changes.  The page is the same panels, one at a time,
 * with a script that tells what is under the pointer and marks what is searched for.
 */
#include "cli/matrix_picture.h"

#include <stdio.h>
#include <string.h>

#include "lib/auto.h"
#include "lib/xml.h"

#define CELL        14 /* side, in pixels */
#define CHAR_WIDTH  7  /* of a label, at most */
#define NAME_MAX    48 /* characters of a label; the page shows the rest */
#define MARGIN      10
#define TITLE_SPACE 34

static const struct {
	enum matrix_cell cell;
	const char *colour;
	const char *meaning;
} states[] = {
	{ CELL_ALLOW, "#1f7a5c", "allowed" },
	{ CELL_SOME, "#e8b13a", "some of them" },
	{ CELL_DENY, "#eed9d6", "denied" },
	{ CELL_APART, "#ffffff", "no common address family" },
};

struct layout {
	size_t label; /* room for names, to the left and above */
	size_t side;  /* of the square of cells */
	size_t width;
	size_t height; /* of a panel */
};

const char *matrix_table_title(const struct matrix_table *table, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < table->port_count && used < size; i++) {
		const struct matrix_port *port = &table->ports[i];
		const char *comma = i ? ", " : "";

		if (port->proto == 0)
			used += (size_t)snprintf(buf + used, size - used, "%sall ports", comma);
		else
			used += (size_t)snprintf(buf + used, size - used, "%s%u/%s", comma,
						 port->port, proto_name(port->proto));
	}
	if (!(table->families[FAMILY_V4] && table->families[FAMILY_V6]) && used < size)
		snprintf(buf + used, size - used, ", only %s",
			 table->families[FAMILY_V4] ? "IPv4" : "IPv6");
	return buf;
}

static struct layout layout_of(const struct matrix *matrix)
{
	struct layout layout = { .side = matrix->group_count * CELL };
	size_t longest = 8;

	for (size_t i = 0; i < matrix->group_count; i++) {
		size_t len = strlen(matrix->groups[i].name);

		longest = len > longest ? len : longest;
	}
	if (longest > NAME_MAX)
		longest = NAME_MAX + 1;
	layout.label = longest * CHAR_WIDTH + MARGIN;
	layout.width = layout.label + layout.side + 2 * MARGIN;
	if (layout.width < 640)
		layout.width = 640;
	layout.height = TITLE_SPACE + layout.label + layout.side + 2 * MARGIN;
	return layout;
}

/* ---- a panel ---- */

/* All cells of one state, as one path. */
static void add_cells(const struct matrix *matrix, const struct matrix_table *table,
		      enum matrix_cell state, const char *colour, struct buffer *text)
{
	size_t count = matrix->group_count;
	bool begun = false;

	for (size_t row = 0; row < count; row++) {
		for (size_t first = 0; first < count;) {
			size_t end = first;

			while (end < count && matrix_cell(matrix, table, row, end) == state)
				end++;
			if (end == first) {
				first++;
				continue;
			}
			if (!begun)
				buffer_print(text, "<path fill=\"%s\" d=\"", colour);
			begun = true;
			buffer_print(text, "M%zu %zuh%zuv%dh-%zuz", first * CELL, row * CELL,
				     (end - first) * CELL, CELL, (end - first) * CELL);
			first = end;
		}
	}
	if (begun)
		buffer_print(text, "\"/>\n");
}

static bool namespace_changes(const struct matrix *matrix, size_t group)
{
	const char *before = matrix->groups[group - 1].namespace;
	const char *here = matrix->groups[group].namespace;

	return before && here ? strcmp(before, here) != 0 : before != here;
}

/* A fine grid, and stronger lines where the namespace changes. */
static void add_lines(const struct matrix *matrix, const struct layout *layout, struct buffer *text)
{
	for (int strong = 0; strong < 2; strong++) {
		buffer_print(text, "<path fill=\"none\" stroke=\"%s\" d=\"",
			     strong ? "#666" : "#fff");
		for (size_t i = 0; i <= matrix->group_count; i++) {
			bool edge = i == 0 || i == matrix->group_count;

			if (strong && !edge && !namespace_changes(matrix, i))
				continue;
			buffer_print(text, "M0 %zuh%zuM%zu 0v%zu", i * CELL, layout->side, i * CELL,
				     layout->side);
		}
		buffer_print(text, "\"/>\n");
	}
}

static void add_labels(const struct matrix *matrix, struct buffer *text)
{
	for (size_t i = 0; i < matrix->group_count; i++) {
		const char *name = matrix->groups[i].name;

		buffer_print(text, "<text x=\"-5\" y=\"%zu\" text-anchor=\"end\" data-g=\"%zu\">",
			     i * CELL + CELL - 3, i);
		xml_add(text, name, NAME_MAX);
		buffer_print(
			text,
			"</text><text transform=\"translate(%zu,-5) rotate(-90)\" data-g=\"%zu\">",
			i * CELL + CELL - 3, i);
		xml_add(text, name, NAME_MAX);
		buffer_print(text, "</text>\n");
	}
}

static void add_panel(const struct matrix *matrix, const struct matrix_table *table,
		      const struct layout *layout, struct buffer *text)
{
	char title[512];

	buffer_print(text, "<text class=\"title\" x=\"%d\" y=\"20\">", MARGIN);
	xml_add(text, matrix_table_title(table, title, sizeof(title)), 200);
	buffer_print(text,
		     "</text>\n<text x=\"%zu\" y=\"%zu\" text-anchor=\"end\">from \xe2\x86\x93  to "
		     "\xe2\x86\x92</text>\n<g class=\"cells\" transform=\"translate(%zu,%zu)\">\n",
		     layout->label - 5, TITLE_SPACE + layout->label - 5, layout->label,
		     TITLE_SPACE + layout->label);
	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		add_cells(matrix, table, states[i].cell, states[i].colour, text);
	add_lines(matrix, layout, text);
	add_labels(matrix, text);
	buffer_print(text, "</g>\n");
}

static const char style[] = "text{font:11px system-ui,\"DejaVu Sans\",sans-serif;fill:#222}"
			    "text.title{font-size:14px;font-weight:600}";

static void add_svg_open(size_t width, size_t height, struct buffer *text)
{
	buffer_print(text,
		     "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%zu\" "
		     "viewBox=\"0 0 %zu %zu\">\n<style>%s</style>\n",
		     width, height, width, height, style);
}

/* Returns its height. */
static size_t add_legend(struct buffer *text)
{
	size_t x = MARGIN;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		buffer_print(text,
			     "<rect x=\"%zu\" y=\"8\" width=\"%d\" height=\"%d\" fill=\"%s\" "
			     "stroke=\"#999\"/><text x=\"%zu\" y=\"19\">%s</text>\n",
			     x, CELL, CELL, states[i].colour, x + CELL + 5, states[i].meaning);
		x += CELL + 25 + strlen(states[i].meaning) * CHAR_WIDTH;
	}
	return 30;
}

void picture_svg(const struct matrix *matrix, struct buffer *text)
{
	struct layout layout = layout_of(matrix);
	size_t y;

	add_svg_open(layout.width, matrix->table_count * layout.height + 30, text);
	buffer_print(text, "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
	y = add_legend(text);
	for (size_t i = 0; i < matrix->table_count; i++) {
		buffer_print(text, "<g transform=\"translate(0,%zu)\">\n", y);
		add_panel(matrix, &matrix->tables[i], &layout, text);
		buffer_print(text, "</g>\n");
		y += layout.height;
	}
	buffer_print(text, "</svg>\n");
}

/* ---- the page ---- */

static const char page_begin[] =
	"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
	"<title>Who reaches whom</title>\n<style>\n"
	"body{margin:0;font:14px system-ui,\"DejaVu Sans\",sans-serif;color:#222;background:#fff}\n"
	"header{position:sticky;top:0;left:0;background:#f6f6f4;border-bottom:1px solid #ccc;"
	"padding:8px 12px;display:flex;gap:16px;align-items:center;flex-wrap:wrap;z-index:1;"
	"max-width:100vw;box-sizing:border-box}\n"
	"h1{font-size:16px;margin:0}select,input{font:inherit;padding:2px 6px}\n"
	"#told{min-height:1.4em;flex-basis:100%;font-weight:600;overflow-wrap:anywhere}\n"
	"#told small{display:block;font-weight:400;color:#555}\n"
	".panel{display:none}.panel.shown{display:block}\n"
	"text.found{font-weight:700;fill:#b3261e}text.under{font-weight:700;fill:#0b57d0}\n"
	".cross{fill:none;stroke:#0b57d0;stroke-width:2;pointer-events:none}\n"
	"</style></head>\n<body><header><h1>Who reaches whom</h1>"
	"<label>Ports <select id=\"table\"></select></label>"
	"<label>Find <input id=\"find\" type=\"search\" placeholder=\"pod or namespace\"></label>"
	"<div id=\"told\">Point at a cell.</div></header>\n";

/* What is under the pointer is read from the same rows of characters as -o json has. */
static const char page_script[] =
	"const "
	"svgns='http://www.w3.org/2000/svg',panels=[...document.querySelectorAll('.panel')];\n"
	"const told=document.getElementById('told'),choice=document.getElementById('table');\n"
	"const words={x:'allowed','.':'denied','~':'some of them',' ':'no common address "
	"family'};\n"
	"data.tables.forEach((t,i)=>choice.add(new Option(t.title,i)));\n"
	"const show=()=>panels.forEach((p,i)=>p.classList.toggle('shown',i==choice.value));\n"
	"choice.onchange=show;show();\n"
	"const pods=g=>g.pods.length>1?g.name+': '+g.pods.slice(0,12).join(', ')+"
	"(g.pods.length>12?', ...':''):'';\n"
	"panels.forEach((panel,n)=>{const cells=panel.querySelector('.cells');\n"
	"const cross=cells.appendChild(document.createElementNS(svgns,'path'));\n"
	"cross.setAttribute('class','cross');let last='';\n"
	"panel.querySelector('svg').addEventListener('mousemove',e=>{\n"
	"const at=new DOMPoint(e.clientX,e.clientY)"
	".matrixTransform(cells.getScreenCTM().inverse());\n"
	"const to=Math.floor(at.x/cell),from=Math.floor(at.y/cell),all=data.groups.length;\n"
	"if(from<0||to<0||from>=all||to>=all||last==from+' '+to)return;last=from+' '+to;\n"
	"cross.setAttribute('d',`M0 ${from*cell}h${all*cell}v${cell}h${-all*cell}z"
	"M${to*cell} 0v${all*cell}h${cell}v${-all*cell}z`);\n"
	"panel.querySelectorAll('text.under').forEach(t=>t.classList.remove('under'));\n"
	"panel.querySelectorAll(`text[data-g=\"${from}\"],text[data-g=\"${to}\"]`)"
	".forEach(t=>t.classList.add('under'));\n"
	"const a=data.groups[from],b=data.groups[to];\n"
	"told.textContent=`${a.name} \\u2192 ${b.name}: ${words[data.tables[n].rows[from][to]]}`;\n"
	"const small=told.appendChild(document.createElement('small'));\n"
	"small.textContent=[a,b].filter((g,i,l)=>l.indexOf(g)==i).map(pods).filter(s=>s)"
	".join('; ');});});\n"
	"document.getElementById('find').oninput=e=>{const w=e.target.value.toLowerCase();\n"
	"const hit=data.groups.map(g=>w&&(g.name.toLowerCase().includes(w)||"
	"g.pods.some(p=>p.toLowerCase().includes(w))));\n"
	"document.querySelectorAll('text[data-g]').forEach(t=>"
	"t.classList.toggle('found',!!hit[t.dataset.g]));\n"
	"const first=document.querySelector('.panel.shown text.found');\n"
	"if(first)first.scrollIntoView({block:'center',inline:'nearest'});};\n";

/* A JSON string that may stand in a script: "</script>" cannot come about. */
static void add_json_string(struct buffer *text, const char *words)
{
	buffer_print(text, "\"");
	for (; *words; words++) {
		unsigned char c = (unsigned char)*words;

		if (c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&')
			buffer_print(text, "\\u%04x", c);
		else
			buffer_add(text, words, 1);
	}
	buffer_print(text, "\"");
}

static void add_group_data(const struct matrix_group *group, struct buffer *text)
{
	char name[600];

	buffer_print(text, "{\"name\":");
	add_json_string(text, group->name);
	buffer_print(text, ",\"pods\":[");
	for (size_t i = 0; i < group->pod_count; i++) {
		snprintf(name, sizeof(name), "%s/%s", group->pods[i]->namespace,
			 group->pods[i]->name);
		buffer_print(text, i ? "," : "");
		add_json_string(text, name);
	}
	buffer_print(text, "]}");
}

static void add_data(const struct matrix *matrix, struct buffer *text)
{
	char title[512];

	buffer_print(text, "{\"groups\":[");
	for (size_t i = 0; i < matrix->group_count; i++) {
		buffer_print(text, i ? ",\n" : "");
		add_group_data(&matrix->groups[i], text);
	}
	buffer_print(text, "],\n\"tables\":[");
	for (size_t i = 0; i < matrix->table_count; i++) {
		const struct matrix_table *table = &matrix->tables[i];

		buffer_print(text, "%s{\"title\":", i ? ",\n" : "");
		add_json_string(text, matrix_table_title(table, title, sizeof(title)));
		buffer_print(text, ",\"rows\":[");
		for (size_t row = 0; row < matrix->group_count; row++) {
			buffer_print(text, row ? ",\n\"" : "\"");
			buffer_add(text, &table->cells[row * matrix->group_count],
				   matrix->group_count);
			buffer_print(text, "\"");
		}
		buffer_print(text, "]}");
	}
	buffer_print(text, "]}");
}

void picture_html(const struct matrix *matrix, struct buffer *text)
{
	struct layout layout = layout_of(matrix);

	buffer_add(text, page_begin, strlen(page_begin));
	add_svg_open(640, 30, text);
	add_legend(text);
	buffer_print(text, "</svg>\n");
	for (size_t i = 0; i < matrix->table_count; i++) {
		buffer_print(text, "<div class=\"panel%s\">", i ? "" : " shown");
		add_svg_open(layout.width, layout.height, text);
		add_panel(matrix, &matrix->tables[i], &layout, text);
		buffer_print(text, "</svg></div>\n");
	}
	buffer_print(text, "<script>\nconst cell=%d,data=", CELL);
	add_data(matrix, text);
	buffer_print(text, ";\n");
	buffer_add(text, page_script, strlen(page_script));
	buffer_print(text, "</script></body></html>\n");
}
