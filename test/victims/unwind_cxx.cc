/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unwind_cxx [SECONDS]: keeps busy in the depths of the C++ library: containers, strings, exceptions, virtual calls, realigned stacks. */
/* build: -fomit-frame-pointer */
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{
struct node {
	virtual ~node() = default;
	virtual long visit(int depth) const = 0;
};

struct leaf : node {
	long visit(int depth) const override
	{
		alignas(64) volatile double values[8]; /* makes the compiler realign the stack */
		std::ostringstream text;

		for (int i = 0; i < 8; i++)
			values[i] = depth * i;
		text << "depth " << depth << ' ' << values[depth % 8];
		if (depth % 5 == 0)
			throw std::runtime_error(text.str());
		return static_cast<long>(text.str().size());
	}
};

struct branch : node {
	std::map<std::string, std::unique_ptr<node>> children;

	long visit(int depth) const override
	{
		long sum = 0;

		for (const auto &child : children) {
			std::function<long(int)> call = [&](int d) { return child.second->visit(d); };

			try {
				sum += call(depth + 1);
			} catch (const std::exception &e) {
				sum += static_cast<long>(std::string(e.what()).find('d'));
			}
		}
		return sum;
	}
};

std::unique_ptr<node> grow(int depth)
{
	if (depth == 0)
		return std::make_unique<leaf>();
	auto b = std::make_unique<branch>();

	for (int i = 0; i < 2; i++)
		b->children["child number " + std::to_string(i)] = grow(depth - 1);
	return b;
}

long sort_words(std::vector<std::string> words)
{
	std::sort(words.begin(), words.end(), [](const std::string &a, const std::string &b) {
		return std::lexicographical_compare(a.rbegin(), a.rend(), b.rbegin(), b.rend());
	});
	return static_cast<long>(words.front().size());
}
}

int main(int argc, char **argv)
{
	auto end = std::chrono::steady_clock::now() + std::chrono::seconds(argc > 1 ? std::atoi(argv[1]) : 30);
	const std::regex pattern("(a|b)*c[0-9]+");
	const auto tree = grow(7);
	long sum = 0;

	while (std::chrono::steady_clock::now() < end) {
		std::vector<std::string> words;

		for (int i = 0; i < 500; i++)
			words.push_back("word " + std::to_string(i * 7919 % 503));
		sum += tree->visit(0) + sort_words(std::move(words));
		sum += std::regex_match("ababababababababac4099", pattern);
	}
	std::printf("%ld\n", sum);
	return 0;
}
