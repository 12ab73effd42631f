#include "tools/queue_screen.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>
#include "base/io.h"
#include "base/utf8.h"
#include "tools/cli.h"
#include "tools/vote.h"

enum key { /* beside bytes */
	   KEY_NONE = 256,
	   KEY_UP,
	   KEY_DOWN,
	   KEY_PAGE_UP,
	   KEY_PAGE_DOWN,
	   KEY_ESCAPE,
	   KEY_LEAVE, /* Ctrl-C, Ctrl-D, end of the terminal, a signal */
	   KEY_RESIZE,
};

struct screen {
	struct client *client;
	int tty, signals;
	struct termios before;
	bool raw;
	int rows, cols;
	json_t *items; /* owned: GET /v1/approvals */
	size_t at; /* the chosen one */
	char message[256]; /* last line but one */
	struct buffer out;
};

/* ---- the terminal ---- */

static void measure(struct screen *s)
{
	struct winsize w;

	if (ioctl(s->tty, TIOCGWINSZ, &w) < 0 || w.ws_row < 1 || w.ws_col < 1)
		w = (struct winsize){.ws_row = 24, .ws_col = 80};
	s->rows = w.ws_row < 6 ? 6 : w.ws_row;
	s->cols = w.ws_col < 20 ? 20 : w.ws_col;
}

static void leave(struct screen *s)
{
	static const char back[] = "\x1b[?2004l\x1b[?25h\x1b[0m\x1b[?1049l";

	if (!s->raw)
		return;
	(void)!io_write_all(s->tty, back, sizeof(back) - 1);
	tcsetattr(s->tty, TCSAFLUSH, &s->before);
	s->raw = false;
}

static int enter(struct screen *s, struct error *err)
{
	/* The alternate screen, no cursor, and what is pasted is marked as such. */
	static const char forth[] = "\x1b[?1049h\x1b[?25l\x1b[?2004h";
	struct termios raw;
	sigset_t mask;

	s->tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (s->tty < 0 || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
	    tcgetattr(s->tty, &s->before) < 0)
		return error_set_exit(err, -ENOTTY, EXIT_STATUS_USAGE,
				      "queue -i: not on a terminal; 'holdfast queue' lists, "
				      "'holdfast approve ID' decides");
	sigemptyset(&mask);
	sigaddset(&mask, SIGWINCH);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	sigaddset(&mask, SIGINT);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	s->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return error_set(err, -errno, "queue -i: %s", strerror(errno));
	raw = s->before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
	raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL | INLCR);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(s->tty, TCSAFLUSH, &raw) < 0)
		return error_set(err, -errno, "queue -i: %s", strerror(errno));
	s->raw = true;
	measure(s);
	return io_write_all(s->tty, forth, sizeof(forth) - 1);
}

static int read_byte(struct screen *s, int timeout_ms)
{
	struct pollfd p = {.fd = s->tty, .events = POLLIN};
	unsigned char byte;

	if (poll(&p, 1, timeout_ms) <= 0)
		return -1;
	return read(s->tty, &byte, 1) == 1 ? byte : -2;
}

/* All of a paste is dropped: it ends with CSI 201 ~. */
static void drop_paste(struct screen *s)
{
	static const char end[] = "\x1b[201~";
	size_t have = 0;
	int byte;

	while (have < sizeof(end) - 1 && (byte = read_byte(s, 5000)) >= 0)
		have = byte == end[have] ? have + 1 : byte == end[0] ? 1 : 0;
}

static int read_escape(struct screen *s)
{
	int number = 0, byte = read_byte(s, 30);

	if (byte != '[' && byte != 'O')
		return KEY_ESCAPE;
	while ((byte = read_byte(s, 30)) >= '0' && byte <= '9' && number < 1000)
		number = number * 10 + byte - '0';
	while (byte == ';' || (byte >= '0' && byte <= '9'))
		byte = read_byte(s, 30);
	if (byte == '~' && number == 200)
		drop_paste(s);
	switch (byte) {
	case 'A':
		return KEY_UP;
	case 'B':
		return KEY_DOWN;
	case '~':
		return number == 5 ? KEY_PAGE_UP : number == 6 ? KEY_PAGE_DOWN : KEY_NONE;
	default:
		return KEY_NONE;
	}
}

static int take_signal(struct screen *s)
{
	struct signalfd_siginfo info;

	if (read(s->signals, &info, sizeof(info)) != sizeof(info))
		return KEY_NONE;
	if (info.ssi_signo != SIGWINCH)
		return KEY_LEAVE;
	measure(s);
	return KEY_RESIZE;
}

static int read_key(struct screen *s, int timeout_ms)
{
	struct pollfd p[2] = {{.fd = s->tty, .events = POLLIN},
			      {.fd = s->signals, .events = POLLIN}};
	int byte;

	if (poll(p, 2, timeout_ms) <= 0)
		return KEY_NONE;
	if (p[1].revents)
		return take_signal(s);
	byte = read_byte(s, 0);
	if (byte == -2 || byte == 3 || byte == 4)
		return KEY_LEAVE;
	return byte == 27 ? read_escape(s) : byte < 0 ? KEY_NONE : byte;
}

/* What was typed before, and what is typed while nobody can have read it, does not count. */
static void dead_time(struct screen *s)
{
	poll(NULL, 0, QUEUE_SCREEN_DEAD_MS);
	tcflush(s->tty, TCIFLUSH);
}

/* ---- drawing ---- */

static int width_of(int32_t cp)
{
	int w = cp < 0 ? 1 : wcwidth((wchar_t)cp);

	return w < 0 ? 1 : w;
}

/* Each row begins at rows[i] of text and ends before rows[i + 1]; a newline ends one too. */
static size_t wrap(struct bytes text, int cols, size_t *rows, size_t max)
{
	size_t count = 0, at = 0;
	int col = 0;

	rows[count++] = 0;
	while (at < text.len && count < max) {
		size_t from = at;
		int32_t cp = utf8_next(text, &at);
		int w = cp == '\n' ? 0 : width_of(cp);

		if (cp != '\n' && col + w > cols) {
			rows[count++] = from;
			col = 0;
		}
		col += w;
		if (cp == '\n' && at < text.len) {
			if (count < max)
				rows[count++] = at;
			col = 0;
		}
	}
	return count;
}

static void put_row(struct screen *s, struct bytes text)
{
	while (text.len && ((const char *)text.data)[text.len - 1] == '\n')
		text.len--;
	buffer_append(&s->out, text.data, text.len);
	buffer_append_str(&s->out, "\x1b[K\r\n");
}

static void put_line(struct screen *s, const char *text)
{
	size_t rows[2];
	struct bytes b = bytes_str(text);
	size_t n = wrap(b, s->cols - 1, rows, 2);

	put_row(s, n > 1 ? bytes_of(text, rows[1]) : b);
}

static void begin(struct screen *s)
{
	s->out.len = 0;
	buffer_append_str(&s->out, "\x1b[H\x1b[2J");
}

static int show(struct screen *s)
{
	return io_write_all(s->tty, s->out.data, s->out.len);
}

/* ---- the list ---- */

static int fetch(struct screen *s, struct error *err)
{
	struct client_request r = {.method = "GET", .target = "/v1/approvals?max=500"};
	json_t *doc = NULL;
	int e = client_call(s->client, &r, NULL, &doc, NULL, err);

	if (e < 0)
		return e;
	json_decref(s->items);
	s->items = json_incref(cli_get(doc, "approvals"));
	json_decref(doc);
	if (s->at >= json_array_size(s->items))
		s->at = json_array_size(s->items) ? json_array_size(s->items) - 1 : 0;
	return 0;
}

static int draw_list(struct screen *s)
{
	size_t count = json_array_size(s->items), room = (size_t)s->rows - 4,
	       top = s->at >= room ? s->at - room + 1 : 0;
	char line[512];

	begin(s);
	snprintf(line, sizeof(line), "%zu wait%s for you", count, count == 1 ? "s" : "");
	put_line(s, line);
	for (size_t i = top; i < count && i < top + room; i++) {
		const json_t *a = json_array_get(s->items, i);

		snprintf(line, sizeof(line), "%c %.8s  %-11s %.400s", i == s->at ? '>' : ' ',
			 cli_str(a, "approval"), cli_escaped(cli_str(a, "kind")),
			 cli_escaped(cli_str(a, "title")));
		put_line(s, line);
	}
	put_line(s, "");
	put_line(s, s->message);
	buffer_append_str(&s->out, "up, down: choose   Enter: read the card   q: leave");
	return show(s);
}

/* ---- one card ---- */

struct card {
	json_t *doc; /* owned */
	struct buffer text; /* escaped */
	size_t rows[QUEUE_SCREEN_ROWS_MAX];
	size_t count, top;
	bool seen; /* its last row was on the screen */
	int64_t since_ms;
	char word[QUEUE_SCREEN_WORD_MAX + 1]; /* that is being typed */
	bool typing;
};

static void card_free(struct card *k)
{
	json_decref(k->doc);
	buffer_free(&k->text);
}

static int card_fetch(struct screen *s, const char *id, json_t **ret, struct error *err)
{
	AUTO_BUFFER target = {0};
	struct client_request r = {.method = "GET"};

	buffer_printf(&target, "/v1/approvals/%.32s", id);
	if (target.failed)
		return error_nomem(err);
	r.target = (const char *)target.data;
	return client_call(s->client, &r, NULL, ret, NULL, err);
}

static void card_help(const struct card *k, char *line, size_t size)
{
	const json_t *choices = cli_get(k->doc, "choices");
	size_t i, at = 0;
	const json_t *c;

	if (strcmp(cli_str(k->doc, "state"), "open") != 0) {
		snprintf(line, size, "it is %.32s already   q: back",
			 cli_escaped(cli_str(k->doc, "state")));
	} else if (cli_bool(k->doc, "signed")) {
		snprintf(line, size, "votes are signed: holdfast approve %.8s --sign KEY   q: back",
			 cli_str(k->doc, "approval"));
	} else if (!k->seen) {
		snprintf(line, size, "there is more: space or down   q: back");
	} else if (k->typing) {
		at += (size_t)snprintf(line, size, "type one of:");
		json_array_foreach(choices, i, c) if (at < size) at +=
			(size_t)snprintf(line + at, size - at, " %s",
					 cli_escaped(json_string_value(c)));
		if (at < size)
			snprintf(line + at, size - at, " and Enter (Esc: none) > %s", k->word);
	} else {
		snprintf(line, size, "d: decide   up, down: scroll   q: back");
	}
}

static int draw_card(struct screen *s, struct card *k)
{
	size_t room = (size_t)s->rows - 3;
	char line[512];

	k->count = wrap(buffer_bytes(&k->text), s->cols - 1, k->rows, QUEUE_SCREEN_ROWS_MAX);
	if (k->top + room > k->count)
		k->top = k->count > room ? k->count - room : 0;
	begin(s);
	for (size_t i = k->top; i < k->count && i < k->top + room; i++) {
		size_t end = i + 1 < k->count ? k->rows[i + 1] : k->text.len;

		put_row(s, bytes_of(k->text.data + k->rows[i], end - k->rows[i]));
		k->seen |= i + 1 == k->count && k->count < QUEUE_SCREEN_ROWS_MAX;
	}
	put_line(s, s->message);
	card_help(k, line, sizeof(line));
	put_line(s, line);
	s->out.len -= 2; /* the last line does not scroll the screen */
	return show(s);
}

static bool is_choice(const struct card *k, const char *word)
{
	size_t i;
	const json_t *c;

	json_array_foreach(cli_get(k->doc, "choices"), i,
			   c) if (strcmp(json_string_value(c), word) == 0) return true;
	return false;
}

/* 1: decided, back to the list. */
static int decide(struct screen *s, struct card *k)
{
	struct vote v = {.shown_ms = (uint64_t)(client_now_ms() - k->since_ms)};
	struct error err = {0};
	json_t *answer = NULL;

	k->typing = false;
	if (!is_choice(k, k->word)) {
		snprintf(s->message, sizeof(s->message),
			 "nothing was decided: '%s' is none of them", k->word);
		return 0;
	}
	v.deny = strcmp(k->word, "deny") == 0;
	if (!v.deny && json_is_false(cli_get(k->doc, "complete"))) {
		snprintf(s->message, sizeof(s->message),
			 "nothing was decided: the card does not show all; holdfast approve %.8s "
			 "--digest %.16s",
			 cli_str(k->doc, "approval"), cli_str(k->doc, "card_digest"));
		return 0;
	}
	v.choice = v.deny || strcmp(k->word, "approve") == 0 ? NULL : k->word;
	if (vote_send(s->client, &v, k->doc, &answer, &err) < 0) {
		snprintf(s->message, sizeof(s->message), "%.200s", cli_escaped(err.msg));
		return 0;
	}
	snprintf(s->message, sizeof(s->message), "%.120s: %.60s",
		 cli_escaped(cli_str(k->doc, "title")), cli_escaped(vote_outcome(&v, answer)));
	json_decref(answer);
	return 1;
}

static int type_key(struct screen *s, struct card *k, int key)
{
	size_t len = strlen(k->word);

	if (key == KEY_ESCAPE) {
		k->typing = false;
	} else if (key == '\r' || key == '\n') {
		return decide(s, k);
	} else if ((key == 127 || key == 8) && len > 0) {
		k->word[len - 1] = '\0';
	} else if (((key >= 'a' && key <= 'z') || key == '-') && len < QUEUE_SCREEN_WORD_MAX) {
		k->word[len] = (char)key;
		k->word[len + 1] = '\0';
	}
	return 0;
}

static void scroll(const struct screen *s, struct card *k, int key)
{
	size_t page = (size_t)s->rows - 4;

	if (key == KEY_DOWN || key == 'j')
		k->top++;
	else if ((key == KEY_UP || key == 'k') && k->top > 0)
		k->top--;
	else if (key == KEY_PAGE_DOWN || key == ' ')
		k->top += page;
	else if (key == KEY_PAGE_UP)
		k->top = k->top > page ? k->top - page : 0;
}

/* It was decided elsewhere, or withdrawn, while it stood here. */
static int look_again(struct screen *s, struct card *k, struct error *err)
{
	json_t *doc = NULL;
	int e = card_fetch(s, cli_str(k->doc, "approval"), &doc, err);

	if (e < 0)
		return e;
	if (strcmp(cli_str(doc, "state"), cli_str(k->doc, "state")) != 0) {
		json_decref(k->doc);
		k->doc = doc;
		k->typing = false;
	} else {
		json_decref(doc);
	}
	return 0;
}

static bool may_decide(const struct card *k)
{
	return k->seen && strcmp(cli_str(k->doc, "state"), "open") == 0 &&
	       !cli_bool(k->doc, "signed");
}

/* A tab would put what follows where another label stands. */
static void escape_card(struct buffer *out, struct bytes card)
{
	AUTO_BUFFER shown = {0};

	cli_escape_text(&shown, card);
	for (size_t i = 0; i < shown.len; i++) {
		if (shown.data[i] == '\t')
			buffer_append_str(out, "\\t");
		else
			buffer_append_byte(out, shown.data[i]);
	}
}

/* 0: back to the list. KEY_LEAVE: out of it. */
static int read_card(struct screen *s, struct error *err)
{
	__attribute__((cleanup(card_free))) struct card k = {0};
	int e = card_fetch(s, cli_str(json_array_get(s->items, s->at), "approval"), &k.doc, err);

	if (e < 0)
		return e;
	s->message[0] = '\0';
	escape_card(&k.text, bytes_str(cli_str(k.doc, "card")));
	e = draw_card(s, &k);
	k.since_ms = client_now_ms();
	dead_time(s);
	while (e == 0) {
		int key = read_key(s, QUEUE_SCREEN_REFRESH_MS);

		if (key == KEY_LEAVE)
			return KEY_LEAVE;
		if (key == KEY_NONE) {
			e = look_again(s, &k, err);
		} else if (k.typing && key != KEY_RESIZE) {
			if (type_key(s, &k, key) > 0)
				return 0;
		} else if (key == 'q' || key == KEY_ESCAPE) {
			return 0;
		} else if (key == 'd' && may_decide(&k)) {
			k.typing = true;
			k.word[0] = s->message[0] = '\0';
			tcflush(s->tty, TCIFLUSH);
		} else {
			scroll(s, &k, key);
		}
		if (e == 0)
			e = draw_card(s, &k);
	}
	return e;
}

static int loop(struct screen *s, struct error *err)
{
	for (;;) {
		int e = fetch(s, err), key;

		if (e == 0)
			e = draw_list(s);
		if (e < 0)
			return e;
		key = read_key(s, QUEUE_SCREEN_REFRESH_MS);
		if (key == KEY_LEAVE || key == 'q')
			return 0;
		if ((key == KEY_UP || key == 'k') && s->at > 0)
			s->at--;
		else if (key == KEY_DOWN || key == 'j')
			s->at++;
		else if (key == '\r' && json_array_size(s->items) > 0) {
			e = read_card(s, err);
			if (e == KEY_LEAVE)
				return 0;
			if (e < 0)
				return e;
		}
	}
}

int queue_screen(struct client *c, struct error *err)
{
	struct screen s = {.client = c, .tty = -1, .signals = -1};
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL), old = NULL;
	int e = enter(&s, err);

	if (utf8)
		old = uselocale(utf8);
	if (e == 0)
		e = loop(&s, err);
	leave(&s);
	if (utf8) {
		uselocale(old);
		freelocale(utf8);
	}
	json_decref(s.items);
	buffer_free(&s.out);
	close_fd(&s.tty);
	close_fd(&s.signals);
	if (e == 0 && s.message[0])
		puts(s.message);
	return e;
}
