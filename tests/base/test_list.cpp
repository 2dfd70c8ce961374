// SPDX-License-Identifier: BSD-2-Clause
//
// The intrusive list against std::list.
#include "base/list.h"

#include "../support/support.h"

#include <list>
#include <vector>

namespace {

using lwp::kern::list_link;

struct item {
	int number = 0;
	list_link<item> link;
	list_link<item> other_link;
};
using items = lwp::kern::list<item, &item::link>;
using other_items = lwp::kern::list<item, &item::other_link>;

template <class List>
std::vector<const item *> forwards(const List &l) {
	std::vector<const item *> out;
	for (const item *e = l.front(); e != nullptr; e = List::next(e)) {
		out.push_back(e);
	}
	return out;
}

template <class List>
std::vector<const item *> backwards(const List &l) {
	std::vector<const item *> out;
	for (const item *e = l.back(); e != nullptr; e = List::prev(e)) {
		out.insert(out.begin(), e);
	}
	return out;
}

void expect_same(const items &l, const std::list<item *> &model) {
	const std::vector<const item *> expected(model.begin(), model.end());
	ASSERT_EQ(forwards(l), expected);
	ASSERT_EQ(backwards(l), expected);
	ASSERT_EQ(l.empty(), model.empty());
}

}  // namespace

TEST(List, EmptyOneHasNeitherEnd) {
	items l;
	EXPECT_TRUE(l.empty());
	EXPECT_EQ(l.front(), nullptr);
	EXPECT_EQ(l.back(), nullptr);
	EXPECT_EQ(l.pop_front(), nullptr);
}

TEST(List, AnElementMayBeOnTwoListsByTwoLinks) {
	std::vector<item> all(3);
	items l;
	other_items other;
	for (item &i : all) {
		l.push_back(&i);
		other.push_front(&i);
	}
	l.remove(&all[1]);
	EXPECT_EQ(forwards(l), (std::vector<const item *>{&all[0], &all[2]}));
	EXPECT_EQ(forwards(other), (std::vector<const item *>{&all[2], &all[1], &all[0]}));
	EXPECT_EQ(backwards(other), (std::vector<const item *>{&all[2], &all[1], &all[0]}));
}

TEST(List, RandomOperationsMatchAModel) {
	lwp::test::dice r(lwp::test::seed());
	std::vector<item> all(64);
	std::vector<item *> out;
	for (item &i : all) {
		out.push_back(&i);
	}
	items l;
	std::list<item *> model;
	const auto any_of_model = [&] { return std::next(model.begin(), static_cast<long>(r.below(static_cast<unsigned>(model.size())))); };
	const std::size_t n = lwp::test::rounds(20000);
	for (std::size_t k = 0; k < n; k++) {
		const bool in = !out.empty() && (model.empty() || r.one_in(2));
		if (in) {
			item *e = out.back();
			out.pop_back();
			switch (r.below(4)) {
			case 0:
				l.push_back(e);
				model.push_back(e);
				break;
			case 1:
				l.push_front(e);
				model.push_front(e);
				break;
			case 2:
				l.insert(nullptr, e);
				model.push_back(e);
				break;
			default: {
				auto at = model.empty() ? model.end() : any_of_model();
				l.insert(at == model.end() ? nullptr : *at, e);
				model.insert(at, e);
			}
			}
		} else if (r.one_in(3)) {
			item *e = l.pop_front();
			ASSERT_EQ(e, model.front());
			model.pop_front();
			out.push_back(e);
		} else {
			auto at = any_of_model();
			l.remove(*at);
			out.insert(out.begin(), *at);
			model.erase(at);
		}
		ASSERT_NO_FATAL_FAILURE(expect_same(l, model));
	}
}
